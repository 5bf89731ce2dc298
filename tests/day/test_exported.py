"""`model.export` of networks with every layer of ours: what is served is what `predict` says, whatever the size of the batch.

On TensorFlow, and on JAX where TensorFlow is installed, as a SavedModel; on PyTorch as ONNX and in its own format. What Keras cannot export
with layers of its own it cannot with ours, and says so in the same words.
"""

import importlib.util

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext import layers, tables

BACKEND = keras.backend.backend()
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
SIZES = (1, 2, 7, 50)


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def table():
    rng = np.random.default_rng(0)
    columns = {"age": rng.normal(40, 9, 50), "town": rng.choice(["Bonn", "Oslo", "Rome"], 50), "height": rng.normal(1.7, 0.1, 50)}
    columns["height"][3] = np.nan
    features = tables.TableFeatures()
    features.adapt(columns)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            features,
            keras.layers.Dense(8, use_bias=False),
            layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            layers.Dropout(0.3),
            keras.layers.Dense(3, "softmax"),
            tables.ClassNames(["low", "middle", "high"]),
        ]
    )
    return model, features.encode(columns)


def numbers():
    columns = {"age": drawn(50), "height": drawn(2, 50)[1]}
    features = tables.TableFeatures()
    features.adapt(columns)
    return keras.Sequential([keras.Input((2,)), features, keras.layers.Dense(1)]), features.encode(columns)


def image():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.SpatialDropout2D(0.2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    return model, drawn(50, 8, 8, 3)


def series():
    inputs = keras.Input((None, 4))
    x = keras.layers.Conv1D(5, 2, padding="same")(layers.SpatialDropout1D(0.2)(inputs))
    x = layers.BatchNormalization(virtual_batch_size=4, debias=True)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(x))), drawn(50, 6, 4)


def volume():
    normalized = layers.BatchNormalization(renorm=True)
    inside = [keras.Input((3, 3, 3, 2)), layers.SpatialDropout3D(0.2), normalized, keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(inside), drawn(50, 3, 3, 3, 2)


def two_axes():
    normalized = layers.BatchNormalization((1, 2))
    return keras.Sequential([keras.Input((4, 5)), normalized, keras.layers.Flatten(), keras.layers.Dense(2)]), drawn(50, 4, 5)


NETWORKS = [table, numbers, image, series, volume, two_axes]


def trained(make):
    """The network after a step, its data and what it predicts of them."""
    model, x = make()
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((len(x), *model.output_shape[1:])), batch_size=50, verbose=0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.random.default_rng(1).normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(np.random.default_rng(2).uniform(0.5, 2, layer.moving_variance.shape))
    return model, x, model.predict(x, verbose=0)


def check(serve, x, wanted):
    for size in SIZES:
        # A float32 has seven digits, and the outputs are of the size of 1.
        np.testing.assert_allclose(serve(x[:size]), wanted[:size], rtol=1e-5, atol=1e-5)


def quick(*makes):
    """The networks, all but `makes` marked as slow."""
    return [make if make in makes else pytest.param(make, marks=pytest.mark.slow) for make in NETWORKS]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot export SavedModel from PyTorch without torch_xla")
@pytest.mark.skipif(not HAS_TENSORFLOW, reason="SavedModel needs TensorFlow")
@pytest.mark.parametrize("make", quick(table) if BACKEND == "jax" else quick(table, series))
def test_a_saved_model_serves_what_predict_says(make, tmp_path):
    import tensorflow as tf

    model, x, wanted = trained(make)
    model.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    check(loaded.serve, x, wanted)


# Its exporters warn of how Keras reads shapes.
quietly = pytest.mark.filterwarnings("ignore")


@pytest.mark.needs_tensorflow
@pytest.mark.slow
def test_a_saved_model_is_served_where_there_is_no_keras_ext(run_alone, tmp_path):
    model, x, wanted = trained(table)
    model.export(tmp_path / "served", verbose=False)
    np.save(tmp_path / "x.npy", x)
    process = run_alone(
        "import sys, numpy as np, tensorflow as tf\n"
        "model = tf.saved_model.load('served')\n"
        "np.save('y.npy', model.serve(np.load('x.npy')))\n"
        "assert 'keras_ext' not in sys.modules\n",
        tmp_path,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-5, atol=1e-5)


@quietly
@pytest.mark.skipif(BACKEND != "torch", reason="needs tf2onnx on TensorFlow and jax2onnx on JAX")
@pytest.mark.parametrize("make", NETWORKS)
def test_onnx_serves_what_predict_says(make, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model, x, wanted = trained(make)
    path = str(tmp_path / "served.onnx")
    model.export(path, format="onnx", verbose=False)
    onnx.checker.check_model(onnx.load(path))
    graph = ReferenceEvaluator(path)
    check(lambda part: graph.run(None, {graph.input_names[0]: part})[0], x, wanted)


@quietly
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's own format")
@pytest.mark.parametrize("make", quick(table, series))
def test_pytorch_s_own_format_serves_what_predict_says(make, tmp_path):
    import torch

    model, x, wanted = trained(make)
    sizes = {0: torch.export.Dim("batch", min=1, max=64), **({1: torch.export.Dim("time")} if make is series else {})}
    model.export(tmp_path / "served.pt2", format="torch", verbose=False, dynamic_shapes=sizes)
    program = torch.export.load(tmp_path / "served.pt2").module()
    check(lambda part: program(torch.as_tensor(part)).detach().numpy(), x, wanted)


REFUSED = {
    "tensorflow": [("onnx", ImportError, "onnx"), ("torch", ValueError, "requires PyTorch backend")],
    "jax": [
        ("tf_saved_model", ImportError, "requires the tensorflow module"),
        ("onnx", ImportError, "onnx"),
        ("litert", ValueError, "requires TensorFlow or PyTorch backend"),
    ],
    "torch": [("tf_saved_model", Exception, ""), ("litert", ImportError, "install the `litert-torch` package")],
}
MODULES = {"tf_saved_model": "tensorflow", "onnx": {"tensorflow": "tf2onnx", "jax": "jax2onnx"}.get(BACKEND, ""), "litert": "litert_torch"}


@quietly
@pytest.mark.parametrize(("form", "error", "words"), REFUSED[BACKEND], ids=[form for form, *_ in REFUSED[BACKEND]])
def test_what_keras_cannot_export_is_refused_in_the_same_words(form, error, words, tmp_path):
    if issubclass(error, ImportError) and importlib.util.find_spec(MODULES[form]) is not None:
        pytest.skip(f"{MODULES[form]} is installed")
    model, x = image()
    said = []
    for each in (keras_ext.downgrade(model), model):
        each(x)
        with pytest.raises(error, match=words) as caught:
            each.export(tmp_path / ("served.tflite" if form == "litert" else "served"), format=form, verbose=False)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
