"""What can be searched on, and the one line for what cannot."""

import numpy as np
import pytest

from keras_ext._checks import BadInput
from keras_ext.tables.data import load_csv, load_digits, load_npz, make_table

X = np.arange(40.0).reshape(20, 2)


def csv_file(folder, text):
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows(column):
    return "a,b\n" + "\n".join(f"{i},{value}" for i, value in enumerate(column))


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ([0, 1] * 10, "classification"),
        (["yes", "no"] * 10, "classification"),
        ([True, False] * 10, "classification"),
        ([1.0, 2.0] * 10, "classification"),
        (np.arange(20) + 0.5, "regression"),
        ([0.5, 1.5] * 10, "regression"),
    ],
)
def test_the_task_is_reported_by_the_target(target, task):
    assert make_table(X, target, "data").task == task


def test_many_whole_numbers_are_to_predict_unless_said_otherwise():
    x, y = np.zeros((42, 1)), np.repeat(np.arange(21), 2)
    assert make_table(x, y, "data").task == "regression"
    assert make_table(x, y, "data", "classification").task == "classification"
    assert make_table(X, [0, 1] * 10, "data", "regression").task == "regression"


def test_classes_are_numbered_in_the_order_of_their_names():
    table = make_table(X, ["pear", "apple"] * 10, "data")
    assert table.classes == ("apple", "pear")
    assert table.y.tolist() == [1, 0] * 10


def test_the_split_keeps_each_class_share_and_follows_the_seed():
    table = load_digits()
    first, again, other = table.split(0.2, 1), table.split(0.2, 1), table.split(0.2, 2)
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.x_validation, other.x_validation)
    assert len(first.x_validation) == 360
    whole, part = np.bincount(table.y) / 1797, np.bincount(first.y_validation) / 360
    np.testing.assert_allclose(whole, part, atol=1 / 360)
    both = np.concatenate([first.x, first.x_validation])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(table.x, axis=0))


def test_small_tables_with_many_classes_can_be_split():
    table = make_table(np.zeros((20, 1)), np.repeat(np.arange(10), 2), "data")
    split = table.split(0.2)
    assert sorted(split.y_validation) == sorted(split.y) == list(range(10))


def test_csv_and_npz_hold_the_same(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    text = "p,q,r,kind\n" + "\n".join(",".join(map(repr, map(float, row))) + f",{k}" for row, k in zip(x, y, strict=True))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    a, b = load_csv(csv_file(tmp_path, text)), load_npz(tmp_path / "data.npz")
    np.testing.assert_array_equal(np.stack([a.x[name] for name in "pqr"], axis=1).astype("float32"), b.x)
    np.testing.assert_array_equal(a.y, b.y)
    assert a.classes == ("0", "1", "2")


def test_any_csv_column_can_be_the_target(tmp_path):
    table = load_csv(csv_file(tmp_path, "a,kind,b\n" + "\n".join(f"{i},{'uv'[i % 2]},{i * i}" for i in range(20))), "kind")
    assert {name: column[3] for name, column in table.x.items()} == {"a": 3.0, "b": 9.0}


def test_arrays_of_an_npz_keep_their_shape(tmp_path):
    np.savez(tmp_path / "images.npz", pixels=np.zeros((20, 4, 4)), label=[0, 1] * 10)
    assert load_npz(tmp_path / "images.npz", "label").x.shape == (20, 4, 4)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (
            rows([1, 2] * 10).replace("7,2", "7,"),
            None,
            'column "b", the target, has no value in line 9 (empty) and 1 more: fill or remove those lines.',
        ),
        (rows([1, 2] * 10).replace("\n7,", "\ninf,"), None, 'column "a" has no finite number in line 9 ("inf"): fill or remove that line.'),
        (
            rows([1, 2] * 10).replace("\n7,", "\nParis,"),
            None,
            'column "a" holds numbers, but text in line 9 ("Paris"): fix or remove that line.',
        ),
        (rows([1, 2] * 10), "price", 'no column "price". Name one of "a", "b" with --target.'),
        (rows([1, 1] * 10), None, "the target has a single class, 1: there is nothing to tell apart. Name another target."),
        (rows([0.5] * 20), None, "every sample has the same target, 0.5: there is nothing to learn. Name another target."),
        (
            rows([1, 2] * 10 + [3]),
            None,
            "class 3 has one sample; training and validation need one each. Add samples, remove the class, or use --task regression.",
        ),
        (rows([1, 2] * 10) + ",9", None, "line 21 has 3 values, the header 2 names. Fix that line."),
        (rows([1, 2] * 10).replace("a,b", "a,a"), None, 'two columns are called "a". Rename one.'),
        (
            rows([1, 2] * 10).replace("a,b\n", ""),
            None,
            "the first line holds numbers, not names. Put a line with the columns' names on top.",
        ),
        ("a,b\n1,2", None, "1 samples are too few to train and validate on. Give at least 10."),
        ("", None, "needs a header line and samples, found 0 lines."),
        ("b\n" + "1\n2\n" * 10, None, "has the target alone. Add columns of inputs."),
    ],
)
def test_a_csv_that_cannot_be_used_is_reported_in_one_line(tmp_path, text, target, message):
    path = csv_file(tmp_path, text)
    with pytest.raises(BadInput) as raised:
        load_csv(path, target)
    reported = str(raised.value)
    assert reported in (f"{path}: {message}", f"data.csv: {message}")


@pytest.mark.parametrize(
    ("arrays", "target", "message"),
    [
        ({"x": X, "z": X[:, 0]}, None, 'no array "y". Name one of "x", "z" with --target.'),
        ({"a": X, "b": X, "y": X[:, 0]}, None, 'needs one array of inputs beside "y", found "a", "b". Call the inputs "x".'),
        (
            {"x": X, "y": X},
            None,
            "the target has shape (20, 2), one number or name a sample is needed. Give class numbers, not one-hot rows.",
        ),
        ({"x": X[:9], "y": X[:, 0]}, None, "9 samples but 20 targets. Give one target for each sample."),
        ({"x": X[:, 0], "y": X[:, 0]}, None, 'the inputs "x" have shape (20,); (samples, features) is needed.'),
        (
            {"x": np.where(X == 7, np.nan, X), "y": X[:, 0]},
            None,
            "NaN or infinite values in the inputs, first in sample 4, feature 2. Fill or remove those samples.",
        ),
        ({"x": X, "y": np.where(X[:, 0] == 4, np.inf, X[:, 0])}, None, "NaN or infinite values in the target. Remove those samples."),
        ({"x": X.astype(str), "y": X[:, 0]}, None, "the inputs are <U32, not numbers. Encode them as numbers first."),
    ],
)
def test_an_npz_that_cannot_be_used_is_reported_in_one_line(tmp_path, arrays, target, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(BadInput) as raised:
        load_npz(path, target)
    assert str(raised.value) in (f"{path}: {message}", f"data.npz: {message}")


def test_columns_may_have_gaps_but_no_infinity_and_need_a_number():
    gap = np.where(X == 7, np.nan, X)
    table = make_table({"a": X[:, 0], "b": gap[:, 1]}, [0, 1] * 10, "data")
    np.testing.assert_array_equal(table.x["b"], gap[:, 1])
    for column, message in (
        (
            np.where(X[:, 0] == 4, np.inf, X[:, 0]),
            "Infinite values in the inputs, first in sample 3, column 'a'. Fill or remove",
        ),
        (np.full(20, np.nan), 'column "a" has no number. Remove the column.'),
        (np.where(X[:, 0] == 4, 1e30, np.nan), "the inputs hold values up to 1e+30, whose squares float32 cannot hold."),
    ):
        with pytest.raises(BadInput) as raised:
            make_table({"a": column}, [0, 1] * 10, "data")
        assert str(raised.value).startswith(f"data: {message}")


def test_a_column_without_a_number_to_train_on_is_reported():
    y = np.arange(20) + 0.5
    held_out = make_table({"b": y}, y, "data").split(0.2, 0, 0.2).x_validation["b"][0]
    table = make_table({"a": np.where(y == held_out, 1.0, np.nan), "b": y}, y, "data")
    with pytest.raises(BadInput) as raised:
        table.split(0.2, 0, 0.2)
    assert str(raised.value) == 'data: column "a" has no number among the samples of training. Remove the column.'


def test_files_that_are_none_are_reported(tmp_path):
    for load, path, message in (
        (load_csv, tmp_path / "no.csv", "no such file. Check the path."),
        (load_npz, tmp_path, "is a folder. Give a .npz or .csv file."),
    ):
        with pytest.raises(BadInput) as raised:
            load(path)
        assert str(raised.value) == f"{path}: {message}"
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(128, 256)) * 20)
    with pytest.raises(BadInput, match="not a CSV text file in UTF-8"):
        load_csv(noise)
    with pytest.raises(BadInput, match="not an NPZ file of plain arrays"):
        load_npz(noise)
    np.savez(tmp_path / "objects.npz", x=X, y=np.array([None] * 20, dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match="not an NPZ file of plain arrays"):
        load_npz(tmp_path / "objects.npz")


def test_text_cannot_be_predicted_as_a_number():
    with pytest.raises(BadInput, match="the target is text, which regression cannot predict"):
        make_table(X, ["a", "b"] * 10, "data", "regression")


@pytest.mark.parametrize(("x", "y", "what"), [(X * 1e30, [0, 1] * 10, "inputs"), (X, X[:, 0] * 1e30, "target")])
def test_numbers_beyond_float32_are_reported(x, y, what):
    with pytest.raises(BadInput, match=f"data: the {what} hold values up to 4e"):
        make_table(x, y, "data", "regression" if what == "target" else "auto")


def test_a_target_far_from_zero_keeps_its_digits():
    assert np.ptp(make_table(X, 1e9 + np.linspace(0, 1, 20), "data").y) == pytest.approx(1.0)
