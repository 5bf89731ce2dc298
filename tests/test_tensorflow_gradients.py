"""TensorFlow's custom gradients go with their graphs, and no earlier."""

import gc
import weakref
from types import SimpleNamespace

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow keeps graphs", allow_module_level=True)

import tensorflow as tf

from keras_ext._backend import tensorflow_gradients


@tf.custom_gradient
def tripled(x):
    """Three times x, whose gradient is reported to be 7."""
    return 3 * x, lambda upstream: 7 * upstream


def at_two(function):
    """Value and gradient of a function at 2."""
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(y), float(tape.gradient(y, x))


def traced():
    function = tf.function(lambda x: tripled(x) ** 2)
    return function, function.get_concrete_function(tf.TensorSpec((), tf.float32))


def test_what_tensorflow_registers_is_where_it_was():
    before = set(tensorflow_gradients.entries())
    kept = traced()
    new = set(tensorflow_gradients.entries()) - before
    assert len(new) == 1
    assert new.pop().startswith("CustomGradient-")
    del kept


def test_a_gradient_that_is_first_asked_for_after_it_was_let_go_is_right():
    function, _ = traced()
    tensorflow_gradients.let_go()
    tensorflow_gradients.let_go()
    gc.collect()
    # 7 in place of 3, times the derivative of the square at 6.
    assert at_two(function) == (36.0, 84.0)


def test_a_graph_that_nobody_else_holds_goes_with_its_entry():
    before = set(tensorflow_gradients.entries())
    function, concrete = traced()
    (name,) = set(tensorflow_gradients.entries()) - before
    graph = weakref.ref(concrete.graph)
    tensorflow_gradients.let_go()
    gc.collect()
    assert name in tensorflow_gradients.entries()
    del function, concrete
    gc.collect()
    assert graph() is None
    assert name not in tensorflow_gradients.entries()


def test_a_gradient_within_a_branch_and_a_loop_outlives_what_was_let_go():
    @tf.function
    def looped(x):
        for _ in tf.range(2):
            x = tf.cond(x > 0, lambda x=x: tripled(x), lambda x=x: x)
        return x

    looped.get_concrete_function(tf.TensorSpec((), tf.float32))
    tensorflow_gradients.let_go()
    gc.collect()
    assert at_two(looped) == (18.0, 49.0)


def test_a_gradient_whose_graph_is_gone_says_so():
    function, concrete = traced()
    tensorflow_gradients.let_go()
    name = max(tensorflow_gradients.entries(), key=lambda name: int(name.rpartition("-")[2]) if name.startswith("CustomGradient-") else -1)
    placeholder = tensorflow_gradients.entries()[name]["type"]
    del function, concrete
    gc.collect()
    with pytest.raises(LookupError, match=r"of IdentityN belongs to a graph that is gone"):
        placeholder(SimpleNamespace(name="IdentityN"))


def test_a_graph_of_ragged_tensors_goes_too():
    @tf.custom_gradient
    def same(x):
        return x, lambda upstream: upstream

    function = tf.function(lambda x: same(tf.RaggedTensor.from_row_lengths(x, [1, 2])))
    graph = weakref.ref(function.get_concrete_function(tf.TensorSpec((3,), tf.float32)).graph)
    tensorflow_gradients.let_go()
    del function
    gc.collect()
    assert graph() is None


def test_a_model_that_was_let_go_is_saved_with_its_gradient(tmp_path):
    function, _ = traced()
    module = tf.Module()
    module.call = function
    tensorflow_gradients.let_go()
    tf.saved_model.save(module, str(tmp_path), options=tf.saved_model.SaveOptions(experimental_custom_gradients=True))
    del function, module
    gc.collect()
    loaded = tf.saved_model.load(str(tmp_path))
    assert at_two(loaded.call) == (36.0, 84.0)
