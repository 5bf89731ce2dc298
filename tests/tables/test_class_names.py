import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.tables import ClassNames

POLICIES = ["float32", "mixed_float16", "mixed_bfloat16"]
NAMES = ["oak", "elm", "ash"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_very_tensor_comes_back(policy, dtype):
    x = ops.cast(np.ones((2, 3), "float32"), dtype)
    layer = ClassNames(NAMES, dtype=policy)
    assert layer(x) is x
    assert layer.weights == []
    symbolic = layer(keras.Input((3,), dtype=dtype))
    assert (symbolic.shape, symbolic.dtype) == ((None, 3), dtype)
    assert layer.compute_output_shape((None, 3)) == (None, 3)


def classifier(activation, loss, jit, policy, *, named):
    keras.utils.set_random_seed(0)
    units = 1 if activation == "sigmoid" else 3
    # Logits so far apart that the probabilities are 0 and 1, from which no loss can be had.
    steep = keras.initializers.RandomNormal(stddev=100, seed=1)
    layers = [keras.Input((4,)), keras.layers.Dense(units, activation, kernel_initializer=steep, dtype=policy)]
    names = [ClassNames(NAMES if units == 3 else NAMES[:2], dtype=policy)] if named else []
    model = keras.Sequential(layers + names)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=jit)
    return model


SOFTMAX = ("softmax", "sparse_categorical_crossentropy")
SIGMOID = ("sigmoid", "binary_crossentropy")


@pytest.mark.parametrize(
    ("activation", "loss", "policy", "jit"),
    [*((*SOFTMAX, policy, jit) for policy in POLICIES for jit in (False, True)), (*SIGMOID, "float32", False), (*SIGMOID, "float32", True)],
)
def test_loss_and_training_are_those_of_the_model_without_it(activation, loss, policy, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    y = rng.integers(0, 2, (32, 1)).astype("float32")
    with_names, without = (classifier(activation, loss, jit, policy, named=named) for named in (True, False))
    losses = [model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"] for model in (with_names, without)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for mine, other in zip(with_names.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    # On TensorFlow the loss is that of the logits: from the rounded probabilities it could not be above 16.2.
    if keras.backend.backend() == "tensorflow" and policy == "float32":
        assert losses[0][0] > 17


LOAD = """
import sys
from pathlib import Path
import numpy as np
import keras, keras_ext
x = np.load(sys.argv[1] + "/x.npy")
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = keras.saving.load_model(path)
    print(*model.layers[-1].decode(model.predict(x, verbose=0)))
"""


def test_the_names_are_in_the_models_file(tmp_path, in_new_process):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    wanted = []
    for activation in ("sigmoid", "softmax"):
        model = classifier(activation, "mse", False, "float32", named=True)
        kernel, bias = model.get_weights()
        logits = x.astype("float64") @ kernel + bias
        best = logits.argmax(1) if activation == "softmax" else (logits[:, 0] > 0).astype(int)
        assert len(set(best)) == len(model.layers[-1].names)
        wanted.append([NAMES[i] for i in best])
        model.save(tmp_path / f"{activation}.keras")
    assert [line.split() for line in in_new_process(LOAD, tmp_path).splitlines()] == wanted


def test_the_config_holds_the_names():
    layer = ClassNames(np.array(NAMES), name="names", dtype="mixed_float16")
    config = json.loads(json.dumps(layer.get_config()))
    again = ClassNames.from_config(config)
    assert again.get_config() == config == layer.get_config()
    assert again.names == layer.names == tuple(NAMES)


def test_decode():
    three, two = ClassNames(NAMES), ClassNames(("no", "yes"))
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(50, 3))
    np.testing.assert_array_equal(three.decode(p), [NAMES[max(range(3), key=row.__getitem__)] for row in p])
    half = ops.cast(p, "bfloat16")
    np.testing.assert_array_equal(three.decode(half), three.decode(ops.convert_to_numpy(ops.cast(half, "float32"))))
    assert three.decode([[1, 1, 0], [0, np.inf, 1]]).tolist() == ["oak", "elm"]
    assert three.decode(p[:0]).tolist() == []
    assert three.decode(p.reshape(5, 10, 3)).tolist() == three.decode(p).reshape(5, 10).tolist()
    assert three.decode(p).dtype.kind == "U"
    for values in ([0.4, 0.5, 0.51, 1], [[0.4], [0.5], [0.51], [1]], [[0.6, 0.4], [0.5, 0.5], [0.49, 0.51], [0, 1]]):
        assert two.decode(values).tolist() == ["no", "no", "yes", "yes"]
        assert two.decode(np.array(values, "float32")).tolist() == ["no", "no", "yes", "yes"]


@pytest.mark.parametrize(
    ("names", "predictions", "message"),
    [
        (NAMES, [[0, 0, 1], [0, np.nan, 1]], "`predictions[1]` must be without NaN, got [0.0, nan, 1.0]. "),
        (NAMES, [[[0, 0, 1]], [[0, np.nan, 1]]], "`predictions[1]` must be without NaN, got [[0.0, nan, 1.0]]. "),
        (NAMES[:2], [0.2, 0.3, np.nan], "`predictions[2]` must be without NaN, got [nan]. "),
        (NAMES, [0.2, 0.3, 0.5], "`predictions` must be of shape (rows, 3), with one column for each name, got (3,). "),
        (NAMES, [[0.2]], "`predictions` must be of shape (rows, 3), with one column for each name, got (1, 1). "),
        (
            NAMES[:2],
            [[0.2, 0.3, 0.5]],
            "`predictions` must be of shape (rows, 2), with one column for each name or (rows, 1) or (rows,), got (1, 3). ",
        ),
        (NAMES, "oak", "`predictions` must be an array of numbers, got 'oak'. "),
    ],
)
def test_what_cannot_be_decoded_is_refused(names, predictions, message):
    with pytest.raises(ValueError) as caught:
        ClassNames(names).decode(predictions)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ab", "`names` must be a list of text, got 'ab'. "),
        (3, "`names` must be a list of text, got 3. "),
        (["a"], "`names` must be a list of at least two, got ['a']. "),
        (["a", 1], "`names[1]` must be text, got 1. "),
        (["a", "b", "a"], "`names` must be a list with each name once, got ['a', 'b', 'a']. Rename one of 'a'."),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ValueError) as caught:
        ClassNames(names)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("names", "units", "fix"), [(NAMES, 1, "3"), (NAMES, None, "3"), (NAMES, 4, "3"), (NAMES[:2], 3, "2 or 1")])
def test_another_number_of_outputs_is_refused(names, units, fix):
    message = (
        f"`names` must be one for each of the model's outputs, the last axis of (None, {units}), got {names}. "
        f"Name each output, or change their number to {fix}."
    )
    with pytest.raises(ValueError) as caught:
        ClassNames(names)(keras.Input((units,)))
    assert str(caught.value) == message


def test_masks_pass():
    inputs = keras.Input((5,))
    embedded = keras.layers.Embedding(9, 3, mask_zero=True)(inputs)
    # A mean over the steps that are not masked.
    model = keras.Model(inputs, [keras.layers.GlobalAveragePooling1D()(ClassNames(NAMES)(embedded)), embedded])
    mean, steps = map(ops.convert_to_numpy, model(np.array([[1, 2, 0, 0, 0]])))
    np.testing.assert_allclose(mean, steps[:, :2].mean(axis=1), rtol=1e-6)
