"""The parts of a table: folds, groups that stay together, and what cannot be parted."""

import pickle

import numpy as np
import pandas as pd
import pytest

from keras_ext._checks import BadInput
from keras_ext.search.folds import Folds
from keras_ext.tables import load_csv, load_frame, make_table
from keras_ext.tables.data.duplicates import duplicates

SAMPLES = 240


def table(task="classification", groups=None, samples=SAMPLES):
    """Return samples that are their own numbers; the classes have a half, three tenths and two tenths of them."""
    x = np.arange(samples, dtype="float64")[:, None]
    rng = np.random.default_rng(1)
    shares = np.repeat(["a", "b", "c"], [samples // 2, samples * 3 // 10, samples - samples // 2 - samples * 3 // 10])
    y = rng.permutation(shares) if task == "classification" else rng.normal(size=samples)
    return make_table(x, y, "made", groups=groups)


def places(x):
    return x[:, 0].astype(int)


def parts_of(split):
    """Return the places of the test's samples and of those of each fold."""
    return [places(split.x_test), *(places(split.x)[split.folds == fold] for fold in range(split.folds.max() + 1))]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(("folds", "test"), [(2, 0.2), (5, 0.2), (7, 0.1), (5, 0.0)])
def test_each_sample_outside_the_test_is_in_one_fold_and_each_class_keeps_its_share(task, folds, test):
    data = table(task)
    split = data.split(seed=3, test=test, folds=folds)
    held_out = [places(split.x)[split.folds == fold] for fold in range(folds)]
    tested = [] if split.x_test is None else places(split.x_test)
    assert sorted(np.concatenate([*held_out, tested]).tolist()) == list(range(SAMPLES))
    sizes = [len(each) for each in held_out]
    assert max(sizes) - min(sizes) <= (0 if test else 1)
    assert abs(len(tested) - test * SAMPLES) < folds
    assert split.trained == len(split.y) - max(sizes)
    assert len(split.x_validation) == len(split.y_validation) == 0
    np.testing.assert_array_equal(split.y, data.y[places(split.x)])
    if task == "classification":
        counts = np.array([np.bincount(data.y[each], minlength=3) for each in held_out])
        assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    again, other = data.split(seed=3, test=test, folds=folds), data.split(seed=4, test=test, folds=folds)
    np.testing.assert_array_equal(again.folds, split.folds)
    assert not np.array_equal(other.folds, split.folds)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_groups_stay_together_in_folds_and_in_test_and_validation(task):
    names = np.random.default_rng(2).integers(0, 30, SAMPLES).astype(str)
    data = table(task, names)
    for seed in range(3):
        whole = data.split(0.2, seed, 0.2)
        thirds = [places(x) for x in (whole.x, whole.x_validation, whole.x_test)]
        for parts in (parts_of(data.split(seed=seed, test=0.2, folds=4)), thirds):
            assert sorted(np.concatenate(parts).tolist()) == list(range(SAMPLES))
            of_parts = [set(names[part]) for part in parts]
            assert sum(map(len, of_parts)) == len(set(names))
            if task == "classification":
                shares = np.array([np.bincount(data.y[part], minlength=3) / len(part) for part in parts])
                np.testing.assert_allclose(shares, np.tile([0.5, 0.3, 0.2], (len(parts), 1)), atol=0.12)
        assert abs(len(whole.y_test) - 0.2 * SAMPLES) < 0.07 * SAMPLES
        assert abs(len(whole.y_validation) - 0.2 * SAMPLES) < 0.07 * SAMPLES
    assert abs(len(data.split(0.2, 0, 0.4).y_test) - 0.4 * SAMPLES) < 0.1 * SAMPLES
    tests = [sorted(places(data.split(0.2, seed, 0.2).x_test)) for seed in range(4)]
    assert len({tuple(each) for each in tests}) > 1


def test_as_many_groups_as_parts_are_enough():
    names = np.arange(SAMPLES) % 3
    split = table("regression", names).split(0.2, 0, 0.2)
    assert {len(set(names[places(x)])) for x in (split.x, split.x_validation, split.x_test)} == {1}
    assert len(parts_of(table("regression", np.arange(SAMPLES) % 6).split(test=0.2, folds=5))) == 6


def test_no_fold_of_groups_is_larger_than_another_by_more_than_a_group():
    names = np.random.default_rng(4).integers(0, 40, SAMPLES)
    sizes = np.bincount(table("regression", names).split(folds=5).folds)
    assert np.ptp(sizes) <= np.bincount(names).max()


def test_groups_are_a_part_of_the_data_that_is_known_again():
    names = np.arange(SAMPLES) % 5
    assert len({table().fingerprint, table(groups=names).fingerprint, table(groups=names % 2).fingerprint}) == 3


@pytest.mark.parametrize(("numbers", "trained"), [([0, 1, 2] * 20, 40), ([0, 1, 2] * 20 + [0], 40), ([0] * 30 + [1] * 10 + [2] * 10, None)])
def test_a_training_has_all_samples_but_the_fold_s_and_trainings_of_about_one_size_are_of_one(numbers, trained):
    folds, x, y = Folds(numbers), np.arange(len(numbers)), np.arange(len(numbers)) * 2.0
    assert folds.count == 3
    for fold in range(3):
        (a, b, none), (held_out, *_) = folds.parts(fold, (x, {"y": y}, None))
        expected = [i for i, number in enumerate(numbers) if number != fold]
        assert held_out.tolist() == [i for i, number in enumerate(numbers) if number == fold]
        assert set(a.tolist()) <= set(expected)
        assert len(a) == (trained or len(expected))
        np.testing.assert_array_equal(b["y"], a * 2.0)
        assert none is None
        assert folds.parts(fold, (x, {"y": y}, None)[:1])[0][0] is not a  # of other data
    kept = folds.parts(1, (x, y))
    assert folds.parts(1, (x, y)) is kept
    assert len(pickle.dumps(folds)) < len(pickle.dumps(kept)) + len(pickle.dumps(np.asarray(numbers)))


def test_without_a_watched_search_nothing_counts_the_trainings():
    with pytest.raises(ValueError, match=r"^`folds` needs a search that is watched\. Call watch\(tuner, monitor\) first\.$"):
        Folds([0, 1]).of_this_training(np.zeros(2), np.zeros(2), {})


def frame():
    rng = np.random.default_rng(0)
    size, age = rng.normal(size=(2, 40)).round(3)
    return pd.DataFrame({"size": size, "patient": np.repeat(np.arange(10), 4), "age": age, "y": ["u", "v"] * 20})


def test_the_column_of_the_groups_is_no_input(tmp_path):
    rows = frame()
    data = load_frame(rows, "y", group="patient")
    assert set(data.x) == {"size", "age"}
    np.testing.assert_array_equal(data.groups, rows["patient"])
    # Text of digits stays what it is, as a category's does.
    rows["patient"] = np.where(rows["patient"] == 3, "04", rows["patient"].astype(str))
    rows.to_csv(tmp_path / "data.csv", index=False)
    read = load_csv(tmp_path / "data.csv", group="patient")
    assert set(read.x) == {"size", "age"}
    assert len(set(read.groups)) == 10
    # Columns that are named do not bring it back.
    assert set(load_frame(rows, "y", columns=["age"], group="patient").x) == {"age"}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"group": "ward"}, 'table: no column "ward". Name one of "size", "patient", "age", "y" with --group.'),
        ({}, {"group": "y"}, 'table: column "y" is the target, not a group. Name another --group or --target.'),
        (
            {},
            {"group": "patient", "columns": ["patient"]},
            'table: column "patient" is the group, not an input. Leave it out of --columns.',
        ),
        (
            {},
            {"group": "patient", "categories": ["patient"]},
            'table: column "patient" is the group, not an input. Leave it out of --categories.',
        ),
        (
            {"patient": ["a"] * 39 + [None]},
            {"group": "patient"},
            'table: column "patient", the group, has no value in row 40 (empty): fill or remove that row.',
        ),
        (
            {"patient": [1.0] * 39 + [np.nan]},
            {"group": "patient"},
            'table: column "patient", the group, has no value in row 40 (empty): fill or remove that row.',
        ),
    ],
)
def test_a_column_that_cannot_be_the_group_is_reported(change, arguments, message):
    with pytest.raises(BadInput) as raised:
        load_frame(frame().assign(**change), "y", **arguments)
    assert str(raised.value) == message


def test_a_table_of_target_and_group_alone_has_no_inputs():
    with pytest.raises(BadInput, match=r"^table: has the target and the group alone\. Add columns of inputs\.$"):
        load_frame(frame()[["patient", "y"]], group="patient")


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (
            lambda: make_table(np.arange(30.0), ["a"] * 25 + ["b"] * 5, "made"),
            {"folds": 6},
            "made: class b has 5 samples outside the test, fewer than the 6 `folds`. Take at most 5, or add samples.",
        ),
        (
            lambda: make_table(np.arange(30.0), ["a"] * 25 + ["b"] * 5, "made"),
            {"folds": 5, "test": 0.2},
            "made: class b has 4 samples outside the test, fewer than the 5 `folds`. Take at most 4, or add samples.",
        ),
        (
            lambda: make_table(np.arange(12.0), np.linspace(0, 1, 12), "made"),
            {"folds": 20},
            "made: there are 12 samples outside the test, fewer than the 20 `folds`. Take at most 12, or add samples.",
        ),
        (
            lambda: table(groups=np.arange(SAMPLES) % 2),
            {"test": 0.2},
            "made: has 2 groups of samples, and 3 parts need one each. Take fewer parts, or groups of another column.",
        ),
        (
            lambda: table(groups=np.arange(SAMPLES) % 5),
            {"test": 0.2, "folds": 5},
            "made: has 5 groups of samples, and 6 parts need one each. Take fewer parts, or groups of another column.",
        ),
        (
            lambda: table("regression", groups=np.arange(SAMPLES) // 80),
            {"folds": 4},
            "made: has 3 groups of samples, and 4 parts need one each. Take fewer parts, or groups of another column.",
        ),
        (
            lambda: table("regression", groups=np.repeat([0, 1, 2], [SAMPLES - 2, 1, 1])),
            {"test": 0.45, "validation": 0.45, "seed": 0},
            "made: has one large group of samples beside the test. Take a smaller test, or groups of another column.",
        ),
        (
            lambda: make_table(np.arange(30.0), np.repeat(["a", "b"], 15), "made", groups=np.repeat([0, 1, 2, 3, 4], [5, 5, 5, 8, 7])),
            {"folds": 3},
            None,
        ),
        (
            lambda: make_table(np.arange(30.0), np.repeat(["a", "b"], 15), "made", groups=np.repeat([0, 1, 2, 3], [5, 5, 5, 15])),
            {"folds": 3},
            "made: class b is in 1 group alone, so that a training has none of it. Add groups with it, or remove the class.",
        ),
    ],
)
def test_what_cannot_be_parted_is_reported_in_a_line(make, arguments, message):
    if message is None:
        assert make().split(**arguments).folds.max() == 2
        return
    with pytest.raises(BadInput) as raised:
        make().split(**arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(3), f"made: the groups have shape (3,), one name or number a sample is needed: ({SAMPLES},)."),
        ([None, "a"] * (SAMPLES // 2), "made: the groups mix text, numbers and gaps. Make text of all of them, and fill the gaps."),
    ],
)
def test_groups_that_are_none_are_reported(groups, message):
    with pytest.raises(BadInput) as raised:
        table(groups=groups)
    assert str(raised.value) == message


def test_samples_that_are_in_two_folds_or_in_the_test_too_are_counted():
    x = np.arange(100.0)
    x[:10] = 7.0
    data = make_table(x, np.zeros(100) + np.arange(100) % 2 * 0.5, "made")
    split = data.split(test=0.2, folds=4)
    samples = [(float(row[0]), float(y)) for row, y in zip(split.x, split.y, strict=True)]
    of_folds = {sample: {f for s, f in zip(samples, split.folds, strict=True) if s == sample} for sample in samples}
    expected = sum(len(of_folds[sample]) > 1 for sample in samples)
    expected += sum((float(row[0]), float(y)) in set(samples) for row, y in zip(split.x_test, split.y_test, strict=True))
    assert duplicates(split) == expected > 0


def test_large_arrays_are_not_searched_for_equal_samples(monkeypatch):
    data = make_table(np.ones((40, 3)) * (np.arange(40)[:, None] % 4), np.arange(40.0) % 4, "made")
    assert duplicates(data.split(folds=4)) > 0
    monkeypatch.setattr("keras_ext.tables.data.duplicates._MOST_NUMBERS", 10)
    assert duplicates(data.split(folds=4)) == 0
    assert duplicates(data.split()) == 0


@pytest.mark.parametrize(("samples", "classes", "shares"), [(20, 2, (0.5, 0.49)), (100, 10, (0.5, 0.45))])
def test_shares_that_leave_too_few_samples_are_refused(samples, classes, shares):
    data = make_table(np.arange(float(samples)), np.array([f"c{i % classes}" for i in range(samples)]), "made")
    with pytest.raises(BadInput, match="aside and keep one of each class"):
        data.split(validation=shares[0], test=shares[1])
