"""Subclasses of the user's own: each method that they override is called, as on a subclass of Keras's optimizer."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

NAMES = ["SGD", "Adagrad", "RMSprop", "Adam"]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 6)).astype("float32"), RNG.normal(size=(32, 1)).astype("float32")


def overriding(kind, method):
    """Return a subclass whose `method` takes the gradients' mean off them: gradient centralization (Yong et al. 2020)."""

    def centred(gradient):
        return gradient - ops.mean(gradient, axis=0, keepdims=True) if len(gradient.shape) > 1 else gradient * 0

    class Own(kind):
        pass

    def update_step(self, gradient, variable, learning_rate):
        super(Own, self).update_step(centred(gradient), variable, learning_rate)

    def apply(self, grads, trainable_variables=None):
        return super(Own, self).apply([centred(g) for g in grads], trainable_variables)

    def apply_gradients(self, grads_and_vars):
        return super(Own, self).apply_gradients([(centred(g), v) for g, v in grads_and_vars])

    setattr(Own, method, {"update_step": update_step, "apply": apply, "apply_gradients": apply_gradients}[method])
    return Own


def trained(optimizer, jit):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile=jit)
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


MODES = [False, True] if keras.backend.backend() == "tensorflow" else ["auto"]
CASES = [
    *((name, {}) for name in NAMES),
    ("SGD", {"weight_decay": 0.01}),
    ("RMSprop", {"clipnorm": 0.5}),
    ("Adam", {"use_ema": True, "ema_overwrite_frequency": 3}),
    ("Adam", {"gradient_accumulation_steps": 2}),
]


@pytest.mark.parametrize("jit", MODES)
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_an_update_step_of_the_users_own_moves_the_weights_as_that_of_keras_class(name, arguments, jit):
    ours, theirs = (
        trained(overriding(getattr(module, name), "update_step")(0.05, **arguments), jit) for module in (optimizers, keras.optimizers)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    plain = trained(getattr(optimizers, name)(0.05, **arguments), jit)
    assert not np.allclose(plain[0], ours[0], atol=1e-4)


@pytest.mark.parametrize("jit", MODES)
@pytest.mark.parametrize("method", ["update_step", "apply", "apply_gradients"])
@pytest.mark.parametrize(
    "arguments", [{"master_weights": True}, {"lazy": True}, {"exclude_norms_and_biases": True, "weight_decay": 0.1}], ids=str
)
def test_an_overridden_method_is_called_with_each_argument_of_ours(method, arguments, jit):
    if method == "apply_gradients" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras calls `apply` there")
    centred = trained(overriding(optimizers.Adam, method)(0.05, **arguments), jit)
    plain = trained(optimizers.Adam(0.05, **arguments), jit)
    assert not np.allclose(plain[0], centred[0], atol=1e-4)
    if "weight_decay" not in arguments:
        # Biases have the gradient 0.
        np.testing.assert_array_equal(centred[1], 0)


@pytest.mark.parametrize("jit", MODES)
def test_clipping_calls_the_update_step_of_the_optimizer_in_it(jit):
    centred = trained(optimizers.GradientClipping(overriding(optimizers.Adam, "update_step")(0.05), threshold=1.0), jit)
    np.testing.assert_array_equal(centred[1], 0)


@pytest.mark.parametrize("jit", MODES)
def test_a_build_of_the_users_own_may_make_slots(jit):
    class Counting(optimizers.Adam):
        def build(self, variables):
            super().build(variables)
            self.steps_taken = self.add_variable((), "zeros", "float32", name="steps_taken")

        def update_step(self, gradient, variable, learning_rate):
            self.assign_add(self.steps_taken, 1.0)
            super().update_step(gradient, variable, learning_rate)

    optimizer = Counting(0.05)
    trained(optimizer, jit)
    assert float(optimizer.steps_taken) == 2 * 4 * 4  # epochs, batches, weights
