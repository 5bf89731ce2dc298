import json

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from keras_ext.layers import TableFeatures
from keras_ext.layers.table_features import Category, Number

POLICIES = ["float32", "mixed_float16", "mixed_bfloat16"]


def table(rows=40, kinds=7):
    rng = np.random.default_rng(0)
    return {
        "age": rng.uniform(20, 60, rows),
        "city": rng.permutation([f"city {i % kinds}" for i in range(rows)]),
        "seen": 1.6e9 + rng.integers(-100, 100, rows),
        "member": rng.integers(0, 2, rows).astype(bool),
        "kind": rng.choice(["red", "blue", ""], rows).tolist(),
    }


def adapted(data, **arguments):
    layer = TableFeatures(**arguments)
    layer.adapt(data)
    return layer


def wanted(learnt, data):
    """The features that scikit-learn makes in float64."""
    parts = []
    for name, column in learnt.items():
        column, values = (np.asarray(c).reshape(-1, 1) for c in (column, data[name]))
        if column.dtype.kind in "UO":
            parts.append(OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(column).transform(values))
        else:
            parts.append(StandardScaler().fit(column.astype("float64")).transform(values.astype("float64")))
    return np.concatenate(parts, axis=1)


def functional(layer):
    inputs = keras.Input((len(layer.names),))
    return keras.Model(inputs, layer(inputs))


def numbers(x):
    return ops.convert_to_numpy(ops.cast(x, "float32")).astype("float64")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("jit", [False, True])
def test_features_are_those_of_scikit_learn(policy, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    data = table()
    layer = adapted(data, dtype=policy)
    model = functional(layer)
    model.compile(jit_compile=jit)
    got = model.predict(layer.encode(data), verbose=0)
    assert keras.backend.standardize_dtype(got.dtype) == layer.compute_dtype == model.output.dtype
    assert got.shape == (40, layer.units) == (40, 13)
    rtol = {"float32": 1e-6, "mixed_float16": 2**-11, "mixed_bfloat16": 2**-8}[policy]
    np.testing.assert_allclose(got.astype("float64"), wanted(data, data), rtol=rtol, atol=1e-6)
    np.testing.assert_array_equal(numbers(layer(layer.encode(data))), got.astype("float64"))


def test_numbers_far_from_zero_keep_their_digits():
    seen = 1.6e9 + np.arange(50.0)
    x = adapted({"seen": seen}).encode({"seen": seen})
    np.testing.assert_allclose(x[:, 0], (seen - seen.mean()) / seen.std(), rtol=1e-6)
    lost = seen.astype("float32")
    assert abs((lost - seen.mean()) / seen.std() - x[:, 0]).max() > 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["functional", "sequential", "eager"])
def test_codes_are_exact_in_half_precision_up_to_thousands(policy, kind):
    keras.config.set_dtype_policy(policy)
    words = [f"{i:04}" for i in range(5000)]
    layer = adapted({"word": words, "x": range(5000)})
    chosen = [0, 255, 256, 257, 2047, 2048, 2049, 4998, 4999]
    x = layer.encode({"word": [*(words[i] for i in chosen), "?"], "x": range(10)})
    model = {"functional": functional, "sequential": lambda layer: keras.Sequential([keras.Input((2,)), layer]), "eager": lambda x: x}
    y = numbers(model[kind](layer)(x))
    assert [row.nonzero()[0].tolist() for row in y[:, :-1]] == [*([i] for i in chosen), []]


def test_an_input_in_half_precision_is_refused_where_codes_would_be_rounded():
    small, large = (adapted({"word": [f"{i:04}" for i in range(n)]}, dtype="mixed_bfloat16") for n in (257, 258))
    half = ops.cast(np.array([[256.0]], "float32"), "bfloat16")
    assert numbers(small(half))[0, 256] == 1
    with pytest.raises(
        ValueError, match=r"`inputs` must be float32 for the 258 categories of column 'word', got 'bfloat16'.*autocast=False"
    ):
        large(half)


def test_what_was_learnt_is_described_and_replaced():
    layer = TableFeatures()
    assert (layer.columns, layer.names, layer.units, layer.get_config()["columns"]) == ((), (), 0, None)
    layer.adapt({"x": ["a"]})
    data = {"b": [1, 2, 6], "a": ["y", "x", "y"], "c": np.full(3, 0.1), "d": [True, False, True]}
    layer.adapt(data)
    assert layer.columns[:2] == (Number("b", 3.0, 14 / 3), Category("a", ("x", "y")))
    assert layer.columns[2] == Number("c", 0.1, 1.0)
    assert (layer.names, layer.units) == (("b", "a", "c", "d"), 5)
    with pytest.raises(AttributeError):
        layer.columns[0].mean = 1.0
    assert layer.weights == []
    assert not layer.trainable
    assert layer.compute_output_shape((None, 4)) == (None, 5)
    assert TableFeatures(layer.columns).columns == layer.columns


def test_encode_takes_any_order_and_more_columns_and_turns_numbers_into_text():
    layer = adapted({"n": [0.0, 2.0], "c": ["1", "True"], "o": np.array(["u", "v"], object)})
    got = layer.encode(
        {"other": [None] * 4, "o": np.array(["v", "u", "", "w"]), "c": [1, True, "x", 1.0], "n": (3, True, np.float32(1), 1)}
    )
    assert got.dtype == np.float32
    assert got.tolist() == [[2, 0, 1], [0, 1, 0], [0, -1, -1], [0, -1, -1]]
    assert layer.encode({"n": [1], "c": np.array([1]), "o": ["u"]}).tolist() == [[0, 0, 0]]
    assert layer.encode({"n": [], "c": [], "o": []}).shape == (0, 3)


def test_the_config_is_exact():
    layer = adapted(table(), name="features", dtype="mixed_float16")
    config = json.loads(json.dumps(layer.get_config()))
    again = TableFeatures.from_config(config)
    assert again.columns == layer.columns
    assert again.get_config() == config == layer.get_config()
    assert type(config["columns"][0]["mean"]) is float


LOAD = """
import sys
import numpy as np
import keras, keras_ext
model = keras.saving.load_model(sys.argv[1] + "/m.keras")
layer = next(each for each in model.layers if hasattr(each, "encode"))
data = dict(np.load(sys.argv[1] + "/data.npz"))
np.save(sys.argv[1] + "/y.npy", model.predict(layer.encode(data), verbose=0))
"""


def test_a_fitted_model_takes_tables_in_another_process(tmp_path, in_new_process):
    data = table()
    target = (np.asarray(data["city"]) == "city 3") + 0.1 * (data["age"] > 40)
    layer = adapted(data)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    losses = model.fit(layer.encode(data), target, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.02 < losses[0]
    # New rows, with what the layer has not seen.
    new = {name: np.asarray(column)[::-1] for name, column in data.items()} | {"city": np.array(["city 3", "Rome"] * 20)}
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", **new)
    in_new_process(LOAD, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(layer.encode(new), verbose=0))
    features = wanted(data, new).astype("float32")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), numbers(model.layers[-1](features)), rtol=1e-5, atol=1e-6)


def test_gradients_pass_through_numbers_only(differentiate):
    layer = adapted({"a": [1.0, 2.0], "c": ["x", "y"], "b": [1.0, 2.0]})
    weight = np.arange(8, dtype="float32").reshape(2, 4)
    _, (gradient,) = differentiate(functional(layer), np.array([[0.5, 1, 0.5], [np.nan, -1, 0.5]], "float32"), weight)
    np.testing.assert_array_equal(gradient, [[0, 0, 3], [4, 0, 7]])


def test_a_built_layer_learns_again_what_fits():
    layer = adapted({"n": [1.0, 3.0], "c": ["a", "b"]})
    layer(np.zeros((1, 2), "float32"))
    layer.adapt({"n": [1.0, 5.0], "k": ["c", "d"]})
    assert layer.columns == (Number("n", 3.0, 4.0), Category("k", ("c", "d")))
    with pytest.raises(ValueError) as caught:
        layer.adapt({"n": [1.0]})
    assert str(caught.value) == (
        "`table` must be a dict of 2 columns, for which the layer was built, got ['n']. Make a new layer, and a new model with it."
    )
    with pytest.raises(ValueError, match=r"`table` must be a dict of columns that give 1 \+ 2 features, .*, got '1 \+ 3'"):
        layer.adapt({"n": [1.0, 2, 3], "c": ["a", "b", "c"]})
    assert layer.columns == (Number("n", 3.0, 4.0), Category("k", ("c", "d")))


NAN = float("nan")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "`table` must be a dict from names to columns, got [1, 2]. Write"),
        ({}, "`table` must be a dict with at least one column, got {}. "),
        ({"a": []}, "`table` must be a dict of columns with at least one row, got {'a': []}. "),
        ({"": [1]}, "`table` must be a dict whose names are text that is not empty, got ''. "),
        ({3: [1]}, "`table` must be a dict whose names are text that is not empty, got 3. "),
        ({"a": [1], "b": [1, 2]}, "`table` must be a dict of columns of one length, got {'a': 1, 'b': 2}. "),
        ({"a": "text"}, "`table['a']` must be a sequence of numbers or text, with one axis, got 'text'. "),
        ({"a": np.ones((2, 1))}, "`table['a']` must be a sequence of numbers or text, with one axis, got "),
        ({"a": [1.0, NAN]}, "`table['a'][1]` must be a finite number, got nan. "),
        ({"a": np.array([-np.inf, 1])}, "`table['a'][0]` must be a finite number, got -inf. "),
        ({"a": [1, None]}, "`table['a'][1]` must be a number, got None. "),
        ({"a": [None, "x"]}, "`table['a'][0]` must be text, as others in the column, got None. "),
        ({"a": ["x", 1]}, "`table['a'][1]` must be text, as others in the column, got 1. "),
        ({"a": [[1], [2]]}, "`table['a'][0]` must be a number, got [1]. "),
        ({"a": np.array([b"x"])}, "`table['a'][0]` must be a number, got b'x'. "),
        ({"a": [1j]}, "`table['a'][0]` must be a number, got 1j. "),
        ({"a": [10**400]}, "`table['a']` must be of numbers that float64 can hold, got "),
        ({"a": [1e300, -1e300]}, "`table['a']` must be of a variance that float64 can hold, got inf. "),
    ],
)
def test_what_cannot_be_learnt_is_refused(data, message):
    layer = TableFeatures()
    with pytest.raises(ValueError) as caught:
        layer.adapt(data)
    assert str(caught.value).startswith(message)
    assert layer.columns == ()


def test_text_that_is_a_number_is_one_where_numbers_were_learnt():
    layer = adapted({"n": [0.0, 2.0], "c": ["1", "2"]})
    wanted = layer.encode({"n": [3.0, 0.5], "c": ["2", "1"]})
    np.testing.assert_array_equal(layer.encode({"n": ["3", " 0.5"], "c": ["2", "1"]}), wanted)
    np.testing.assert_array_equal(layer.encode({"n": ["3", 0.5], "c": ["2", "1"]}), wanted)
    np.testing.assert_array_equal(layer.encode({"n": np.array(["3.0", "5e-1"]), "c": ["2", "1"]}), wanted)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"n": [1]}, "`table` must be a dict with all columns that were learnt, got ['n']. Add 'c', 'd'."),
        ({"n": [1], "c": ["a"], "d": ["a", "b"]}, "`table` must be a dict of columns of one length, got {'n': 1, 'c': 1, 'd': 2}. "),
        ({"n": ["1x"], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a number, got '1x'. "),
        ({"n": np.array([""]), "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a number, got ''. "),
        ({"n": ["nan"], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a finite number, got nan. "),
        ({"n": [NAN], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a finite number, got nan. "),
        ({"n": [1e39], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a number that float32 can hold after - 1.0, / 1.0, got 1e+39. "),
        ({"n": [1], "c": ["a"], "d": [None]}, "`table['d'][0]` must be text or a number, got None. Fill gaps with text"),
        ({"n": [1], "c": [NAN], "d": ["a"]}, "`table['c'][0]` must be text or a number, got nan. Fill gaps with text"),
    ],
)
def test_what_cannot_be_encoded_is_refused(data, message):
    layer = adapted({"n": [0, 2], "c": ["a", "nan"], "d": ["a", "b"]})
    with pytest.raises(ValueError) as caught:
        layer.encode(data)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("age", "`columns` must be a list of descriptions, or None, got 'age'. "),
        ([], "`columns` must be a list with at least one description, or None, got []. "),
        (
            [{"name": "a"}],
            "`columns[0]` must be a dict with 'name', 'mean' and 'variance', or with 'name' and 'vocabulary', got {'name': 'a'}. ",
        ),
        ([{"name": "", "vocabulary": ["x"]}], "`columns[0]['name']` must be text that is not empty, got ''. "),
        ([{"name": "a", "vocabulary": "x"}], "`columns[0]['vocabulary']` must be a list of text, got 'x'. "),
        ([{"name": "a", "vocabulary": []}], "`columns[0]['vocabulary']` must be a list of text, and not empty, got []. "),
        ([{"name": "a", "vocabulary": [1]}], "`columns[0]['vocabulary']` must be a list of text, and not empty, got [1]. "),
        ([{"name": "a", "vocabulary": ["x", "x"]}], "`columns[0]['vocabulary']` must be a list with each value once, got ['x', 'x']. "),
        ([{"name": "a", "mean": NAN, "variance": 1}], "`columns[0]['mean']` must be a finite number, got nan. "),
        ([{"name": "a", "mean": 0, "variance": 0}], "`columns[0]['variance']` must be a finite number above 0, got 0. "),
        ([{"name": "a", "vocabulary": ["x"]}] * 2, "`columns` must be a list with each name once, got ['a', 'a']. Rename one of 'a'."),
    ],
)
def test_wrong_columns_are_refused(columns, message):
    with pytest.raises(ValueError) as caught:
        TableFeatures(columns)
    assert str(caught.value).startswith(message)


def test_a_layer_that_has_learnt_nothing_says_what_to_do():
    for use, before in (
        (lambda layer: layer(np.ones((1, 2), "float32")), "the layer is called"),
        (lambda layer: layer(keras.Input((2,))), "the layer is called"),
        (lambda layer: layer.encode({}), "columns are encoded"),
    ):
        with pytest.raises(ValueError) as caught:
            use(TableFeatures())
        assert str(caught.value) == f"`columns` must be known before {before}, got None. Call `adapt(table)` first."


@pytest.mark.parametrize("shape", [(None, 3), (None, None), (None, 4, 2), (2,)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError) as caught:
        adapted({"a": [1.0], "b": ["x"]})(keras.Input(batch_shape=shape))
    rule = "`inputs` must be of shape (batch, 2), with one column for each that was learnt"
    assert str(caught.value) == f"{rule}, got {shape}. Call the layer with what `encode` returns."


def test_a_wrong_shape_is_refused_later_too():
    layer = adapted({"a": [1.0], "b": ["x"]})
    layer(np.zeros((1, 2), "float32"))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 2"):
        layer(np.zeros((1, 3), "float32"))
