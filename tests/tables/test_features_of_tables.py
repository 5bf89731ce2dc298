import json

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from keras_ext.tables import TableFeatures
from keras_ext.tables.table_features import Category, Number

NAN = float("nan")
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


class NAType:
    """Like pandas's NA: equal to nothing, nor unequal."""

    def __ne__(self, other):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = __eq__ = __ne__


def with_gaps():
    """A table with gaps in two columns, and in places of their own."""
    data, rng = table(), np.random.default_rng(1)
    missing = {name: rng.random(40) < 0.25 for name in ("age", "seen")}
    for name, gaps in missing.items():
        data[name] = np.where(gaps, NAN, data[name])
    return data, missing


def wanted_of_gaps(learnt, data, missing):
    """The features of scikit-learn, that of the gaps behind each column of numbers that had some."""
    parts = []
    for name, column in data.items():
        values = np.asarray(column)
        if name in missing:
            x = StandardScaler().fit(np.asarray(learnt[name]).reshape(-1, 1)).transform(values.reshape(-1, 1))
            parts += [SimpleImputer(strategy="constant", fill_value=0.0).fit_transform(x), np.isnan(values).reshape(-1, 1)]
        else:
            parts.append(wanted({name: learnt[name]}, {name: values}))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("jit", [False, True])
def test_gaps_count_as_the_mean_and_are_reported_by_a_feature(policy, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    data, missing = with_gaps()
    layer = adapted(data, dtype=policy)
    assert [column.gaps for column in layer.columns if isinstance(column, Number)] == [True, True, False]
    model = functional(layer)
    model.compile(jit_compile=jit)
    got = model.predict(layer.encode(data), verbose=0)
    assert got.shape == (40, layer.units) == (40, 15)
    assert keras.backend.standardize_dtype(got.dtype) == layer.compute_dtype
    rtol = {"float32": 1e-6, "mixed_float16": 2**-11, "mixed_bfloat16": 2**-8}[policy]
    np.testing.assert_allclose(got.astype("float64"), wanted_of_gaps(data, data, missing), rtol=rtol, atol=1e-6)
    np.testing.assert_array_equal(numbers(layer(layer.encode(data))), got.astype("float64"))


def test_a_table_of_numbers_alone_may_have_gaps():
    layer = adapted({"a": [1.0, NAN, 3.0], "b": [1, 2, 3]})
    assert layer.columns == (Number("a", 2.0, 1.0, True), Number("b", 2.0, 2 / 3))
    x = layer.encode({"a": [None, 3], "b": [2, 2]})
    np.testing.assert_array_equal(x, [[NAN, 0], [1, 0]])
    np.testing.assert_array_equal(numbers(layer(x)), [[0, 1, 0], [1, 0, 0]])


def test_a_gap_where_there_were_none_counts_as_the_mean():
    layer = adapted({"n": [0.0, 2.0], "c": ["a", "b"]})
    assert layer.units == 3
    for gap in (NAN, None, np.float32(NAN), NAType(), "", " ", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL"):
        assert layer.encode({"n": [gap, 3.0], "c": ["a", "b"]}).tolist() == [[0, 0], [2, 1]], gap
    assert layer.encode({"n": np.array([NAN, 3.0]), "c": ["a", "b"]}).tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize("gap", [NAN, None, np.float32(NAN), NAType()])
def test_mean_and_variance_are_those_of_what_is_there(gap):
    layer = adapted({"n": [gap, 1.6e9, 1.6e9 + 2, gap], "same": [5, gap, gap, 5]})
    assert layer.columns == (Number("n", 1.6e9 + 1, 1.0, True), Number("same", 5.0, 1.0, True))


def test_a_config_without_gaps_is_that_of_before_and_loads_as_before():
    before = [{"name": "n", "mean": 1.0, "variance": 4.0}, {"name": "c", "vocabulary": ["a", "b"]}]
    layer = TableFeatures(before)
    assert layer.get_config()["columns"] == before
    assert adapted({"n": [-1.0, 3.0], "c": ["a", "b"]}).get_config()["columns"] == before
    assert (layer.columns[0].gaps, layer.units) == (False, 3)
    np.testing.assert_array_equal(numbers(layer(layer.encode({"n": [3, NAN], "c": ["b", "a"]}))), [[1, 0, 1], [0, 1, 0]])
    with_gaps = json.loads(json.dumps(adapted({"n": [1.0, None]}).get_config()))
    assert with_gaps["columns"] == [{"name": "n", "mean": 1.0, "variance": 1.0, "gaps": True}]
    assert TableFeatures.from_config(with_gaps).columns == (Number("n", 1.0, 1.0, True),)


def test_gradients_do_not_pass_through_gaps(differentiate):
    layer = adapted({"a": [1.0, 2.0, NAN], "c": ["x", "y", "x"]})
    weight = np.arange(1, 9, dtype="float32").reshape(2, 4)
    _, (gradient,) = differentiate(functional(layer), np.array([[0.5, 1], [np.nan, -1]], "float32"), weight)
    np.testing.assert_array_equal(gradient, [[1, 0], [0, 0]])


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


def test_a_fitted_model_takes_gaps_in_another_process(tmp_path, in_new_process):
    data, missing = with_gaps()
    layer = adapted(data)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    losses = model.fit(layer.encode(data), missing["age"], epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.02 < losses[0]  # the feature of the gaps reports it all
    new = {name: np.asarray(column)[::-1] for name, column in data.items()}
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", **new)
    in_new_process(LOAD, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(layer.encode(new), verbose=0))
    features = wanted_of_gaps(data, new, missing).astype("float32")
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
    with pytest.raises(ValueError, match=r"`table` must be a dict of columns that give 1 \+ 2 features, .*, got '2 \+ 2'"):
        layer.adapt({"n": [1.0, None, 3], "c": ["a", "b", "b"]})
    assert layer.columns == (Number("n", 3.0, 4.0), Category("k", ("c", "d")))


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
        ({"a": [None, NAN]}, "`table['a']` must be a sequence with at least one number, got [None, nan]. Leave the column out."),
        ({"a": np.array([-np.inf, 1])}, "`table['a'][0]` must be a finite number, got -inf. "),
        ({"a": [None, 1, [1]]}, "`table['a'][2]` must be a number, got [1]. "),
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
        ({"n": np.array(["none"]), "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a number, got 'none'. "),
        ({"n": ["inf"], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a finite number, got inf. "),
        ({"n": [-np.inf], "c": ["a"], "d": ["a"]}, "`table['n'][0]` must be a finite number, got -inf. "),
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
        ([{"name": "a", "mean": 0, "variance": 1, "gaps": 1}], "`columns[0]['gaps']` must be True or False, got 1."),
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
