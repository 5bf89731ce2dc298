import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

IDS = [[0, 0, 2, 0], [1, 2, 2, 5], [0, 1, 1, 1]]
ROWS, WIDTH = 6, 3
MODES = ["eager", "function", "compiled"]
# Keras squares or clips the parts of a row one by one: only plain descent is linear, so that its parts add up.
CASES = [
    ("SGD", {}, False),
    ("SGD", {"momentum": 0.9, "nesterov": True}, False),
    ("SGD", {"global_clipnorm": 1.0}, True),
    ("SGD", {"clipnorm": 1.0}, True),
    ("Adagrad", {}, True),
    ("Adagrad", {"global_clipnorm": 1.0}, True),
    ("RMSprop", {}, True),
    ("RMSprop", {"centered": True, "momentum": 0.5, "epsilon": 1e-2}, True),
    ("RMSprop", {"global_clipnorm": 1.0}, True),
    ("Adam", {}, True),
    ("Adam", {"amsgrad": True}, True),
    ("Adam", {"global_clipnorm": 1.0}, True),
]


def parts(step):
    """Rows of one sign, so that the parts of a repeated row do not cancel."""
    return np.random.default_rng(step).uniform(0.5, 1.5, (len(IDS[step]), WIDTH)).astype("float32")


def train(optimizer, sparse, mode="eager"):
    """Three steps on a table of ones, with the gradients as named rows or as a whole table."""
    import tensorflow as tf

    table = keras.Variable(np.ones((ROWS, WIDTH), "float32"))
    optimizer.build([table])

    def step(rows, ids):
        optimizer.apply([tf.IndexedSlices(rows, ids, tf.constant([ROWS, WIDTH]))], [table])

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "compiled")
    for t, ids in enumerate(IDS):
        if sparse:
            step(tf.constant(parts(t)), tf.constant(ids))
        else:
            whole = np.zeros((ROWS, WIDTH), "float32")
            np.add.at(whole, ids, parts(t))
            optimizer.apply([tf.constant(whole)], [table])
    return table.numpy()


@pytest.mark.needs_tensorflow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "arguments", "keras_is_off"), CASES)
def test_repeated_rows_equal_the_dense_gradient(name, arguments, keras_is_off, mode):
    dense = train(getattr(keras.optimizers, name)(0.1, **arguments), sparse=False)
    assert np.abs(dense - 1).max() > 0.05
    np.testing.assert_allclose(train(getattr(optimizers, name)(0.1, **arguments), True, mode), dense, rtol=1e-5, atol=2e-6)
    off = np.abs(train(getattr(keras.optimizers, name)(0.1, **arguments), sparse=True) - dense).max()
    assert off > 1e-3 if keras_is_off else off < 1e-5


@pytest.mark.needs_tensorflow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", ["global_norm", "norm", "value"])
@pytest.mark.parametrize("inner", [keras.optimizers.SGD, keras.optimizers.Adam, optimizers.Adagrad])
def test_clipping_repeated_rows_equals_the_dense_gradient(inner, rule, mode):
    dense = train(optimizers.GradientClipping(inner(0.1), rule, 0.8), sparse=False)
    unclipped = train(inner(0.1), sparse=False)
    if inner.__name__ != "Adam":  # its first steps do not depend on the gradient's size
        assert np.abs(dense - unclipped).max() > 0.01
    got = train(optimizers.GradientClipping(inner(0.1), rule, 0.8), True, mode)
    np.testing.assert_allclose(got, dense, rtol=1e-5, atol=2e-6)


REPLICAS = """
import json
import keras
import numpy as np
import tensorflow as tf
from keras_ext import optimizers

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
report = {}
for name in ("SGD", "Adagrad", "RMSprop", "Adam"):
    tables = {}
    for kind in ("sparse", "dense"):
        with strategy.scope():
            table = tables[kind] = keras.Variable(np.ones((4, 1), "float32"))
            optimizer = getattr(optimizers, name)(0.1)
            optimizer.build([table])

        @tf.function
        def step():
            replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            rows = tf.IndexedSlices(tf.reshape(tf.stack([1.0, 2.0, 3.0 + replica]), [3, 1]), tf.constant([0, 0, 3]), tf.constant([4, 1]))
            optimizer.apply([rows if kind == "sparse" else tf.convert_to_tensor(rows)], [table])

        for _ in range(3):
            strategy.run(step)
    report[name] = [np.array(table).ravel().tolist() for table in tables.values()]
print(json.dumps(report))
"""


@pytest.mark.needs_tensorflow
def test_rows_repeated_on_several_replicas_equal_the_dense_gradient(in_new_process):
    report = json.loads(in_new_process(REPLICAS).splitlines()[-1])
    differences = {name: np.abs(np.subtract(sparse, dense)).max() for name, (sparse, dense) in report.items()}
    assert {name: d for name, d in differences.items() if d > 1e-5} == {}


@pytest.mark.needs_tensorflow
def test_named_rows_alone_move_and_no_row_is_named_by_padding():
    table = train(optimizers.SGD(0.1), sparse=True)
    assert (table[[3, 4]] == 1).all()
    assert (table[[0, 1, 2, 5]] != 1).all()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_embedding_trains_as_one_hot_rows_times_its_table(name, wrapped):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(ROWS, WIDTH)).astype("float32")
    ids = np.array([[0, 0, 2], [0, 1, 1]])
    y = rng.normal(size=(2, 3, WIDTH)).astype("float32")

    def trained(layer, x):
        layer.build(x.shape)
        layer.set_weights([table])
        model = keras.Sequential([layer])
        optimizer = getattr(optimizers, name)(0.1)
        model.compile(optimizers.GradientClipping(optimizer, threshold=0.2) if wrapped else optimizer, "mse")
        model.fit(x, y, epochs=3, batch_size=2, verbose=0)
        return layer.get_weights()[0]

    embedding = trained(keras.layers.Embedding(ROWS, WIDTH), ids)
    product = trained(keras.layers.Dense(WIDTH, use_bias=False), np.eye(ROWS, dtype="float32")[ids])
    assert np.abs(embedding - table).max() > 0.01
    np.testing.assert_allclose(embedding, product, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(embedding[3:], table[3:])
    assert ops.shape(embedding) == (ROWS, WIDTH)
