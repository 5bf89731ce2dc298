"""Every class of a search that users make, whatever it is given: a search that can begin, or an error in words."""

import dataclasses
import functools
import json
from fractions import Fraction

import fuzzing
import keras_tuner
import numpy as np
import pytest
from fuzzing import FLAG, WHOLE, Fuzzed, refused
from hypothesis import strategies as st

from keras_ext import automl, parallel, search, tables

# Results, which the package makes.
MADE_BY_US = ("Grown", "Record", "Results", "SearchResult", "Stage")
FEATURES = tables.TableFeatures([{"name": "a", "mean": 0.0, "variance": 1.0}, {"name": "b", "vocabulary": ["x", "y"]}])
SIZES = st.sampled_from([(4,), [2, 4], (np.int64(3),)])
ACTIVATIONS = st.sampled_from([None, ("relu",), ["tanh", "gelu"], ["prelu"]])
COMMON = {
    "classes": st.sampled_from([None, 2, 3, np.int64(4)]),
    "outputs": WHOLE,
    "mean": st.sampled_from([None, 0.5, np.float32(1), [0.5], np.zeros(1)]),
    "variance": st.sampled_from([None, 1.0, 2, [0.0], np.ones(1)]),
    "samples": st.sampled_from([None, 1, 100, np.int64(7)]),
    "batch_sizes": st.sampled_from([(16, 32), [1, "full"], (np.int64(2),)]),
    "regularization": FLAG,
    "micro_batch": WHOLE,
    "wide": FLAG,
    "epochs": st.sampled_from([None, 1, 5, np.int64(3)]),
    "name": st.sampled_from([None, "some_name"]),
}
DENSE = {"units": SIZES, "features": st.sampled_from([None, FEATURES]), "activations": ACTIVATIONS}
FLAT, IMAGE = st.sampled_from([(2,), [2, 3], (np.int64(2),)]), st.sampled_from([(8, 8), [4, 5, 3], (2, 2, 1)])


class Linear(search.Space):
    def body(self, hp, x):
        return x


def owes_a_network(space, arguments):
    model = space.build(keras_tuner.HyperParameters())
    assert model.output_shape == (None, space.classes or space.outputs)


def owes_names(space, arguments):
    """A space that cannot be built in a fraction of a second reports at least what it is."""
    assert space.objective.direction == "max"


def owes_an_equal_one(settings, arguments):
    kept = dataclasses.asdict(settings)
    assert type(settings)(**json.loads(json.dumps(kept, allow_nan=False))) == settings


def owes_trials(tuner, arguments):
    oracle = getattr(tuner, "oracle", tuner)
    state = json.loads(json.dumps(oracle.get_state(), allow_nan=False))
    oracle.set_state(state)
    assert {
        name: oracle.get_state()[name] for name in ("crossover", "mutations", "population_size", "tournament_size", "seed")
    }.items() <= state.items()
    assert oracle.max_trials is None or oracle.max_trials >= 1
    assert refused(lambda: oracle.populate_space("0")) is not None


def owes_draws(tuner, arguments):
    """A search without a model has no space to draw from; what it keeps goes into a file, and comes back."""
    oracle = tuner.oracle
    oracle.set_state(json.loads(json.dumps(oracle.get_state(), allow_nan=False)))
    assert oracle.max_trials is None or oracle.max_trials >= 1
    assert refused(lambda: oracle.create_trial("tuner0")) is not None


def owes_parts(table, arguments):
    split = refused(lambda: table.split(0.2, 0, 0.2))
    assert split is None or len(split.y) + len(split.y_validation) + len(split.y_test) == len(table)
    by_folds = refused(lambda: table.split(seed=0, test=0.2, folds=3))
    assert by_folds is None or (len(by_folds.folds) == len(by_folds.y) and set(by_folds.folds.tolist()) == {0, 1, 2})
    assert len(table.fingerprint) == 16


def make_tuner(kind=search.GeneticTuner, **arguments):
    if callable(arguments.get("hypermodel")):  # what a user's own function builds is the user's own
        arguments["hypermodel"] = None
    return kind(**{"directory": make_tuner.folder, "overwrite": True, **arguments})


def space_of(cls, shape, **more):
    return Fuzzed(cls, {"input_shape": shape, **more, **COMMON}, owes_names, ("input_shape",))


ORACLE = {
    "objective": st.sampled_from(["val_loss", keras_tuner.Objective("score", "max"), ["loss", "val_accuracy"]]),
    "max_trials": WHOLE,
    "population_size": st.integers(2, 9),
    "tournament_size": st.integers(1, 2),
    "crossover": fuzzing.SHARE,
    "mutations": st.sampled_from([0, 1.0, 2.5]),
    "seed": st.sampled_from([None, 0, 3, np.int64(5)]),
    "hyperparameters": st.none() | st.builds(keras_tuner.HyperParameters),
    "allow_new_entries": FLAG,
    "tune_new_entries": FLAG,
    "max_retries_per_trial": st.integers(0, 2),
    "max_consecutive_failed_trials": WHOLE,
}
SPACES = {
    "CNN": space_of(search.CNN, IMAGE, max_blocks=WHOLE, filters=SIZES, kernels=SIZES, activations=ACTIVATIONS),
    "ImageNetworks": space_of(
        search.ImageNetworks,
        IMAGE,
        max_blocks=WHOLE,
        max_stages=WHOLE,
        blocks_of_stage=WHOLE,
        filters=SIZES,
        kernels=SIZES,
        activations=ACTIVATIONS,
    ),
    "LSTM": space_of(
        search.LSTM,
        st.sampled_from([(5, 2), [None, 3], (4,)]),
        max_layers=WHOLE,
        units=SIZES,
        vocabulary=st.sampled_from([None, 5]),
        embedding=SIZES,
        mask_zero=FLAG,
    ),
    "MLP": dataclasses.replace(
        space_of(search.MLP, FLAT, max_layers=WHOLE, widths=st.sampled_from(["same", "pyramid", "free"]), **DENSE),
        found=(
            {"input_shape": None},
            {"input_shape": (2,), "activations": [[1]]},
            {"input_shape": (2,), "features": 3},
            {"input_shape": (2, 3), "features": FEATURES},
            {"input_shape": (2,), "name": 3},
            {"input_shape": (2,), "name": "a/b"},
            {"input_shape": (2,), "mean": "a", "variance": 1},
            {"input_shape": (2,), "mean": 0, "variance": np.nan},
            {"input_shape": (2,), "units": np.array([3, 4])},
        ),
    ),
    "ResNet": space_of(search.ResNet, IMAGE, max_stages=WHOLE, max_blocks=WHOLE, filters=SIZES, activations=ACTIVATIONS),
    "ResidualMLP": space_of(search.ResidualMLP, FLAT, blocks=SIZES, **DENSE),
    "Space": space_of(Linear, FLAT.filter(lambda shape: len(shape) == 1)),
}
FUZZED = {
    **SPACES,
    "GeneticOracle": Fuzzed(
        search.GeneticOracle,
        ORACLE,
        owes_trials,
        ("objective",),
        found=tuple(
            {"objective": "val_loss", **more}
            for more in (
                {"max_trials": "a"},
                {"hyperparameters": 3},
                {"allow_new_entries": np.array([])},
                {"seed": np.int64(3)},
                {"max_retries_per_trial": -1},
            )
        ),
    ),
    "GeneticTuner": Fuzzed(make_tuner, {**ORACLE, "hypermodel": st.sampled_from([None, Linear((2,))])}, owes_trials, ("objective",)),
    "GridSearch": Fuzzed(
        functools.partial(make_tuner, search.GridSearch, hypermodel=Linear((2,))),
        {
            **{name: ORACLE[name] for name in ("objective", "max_trials", "seed")},
            "values": st.sampled_from([None, {}, {"batch_size": [16, 32]}, {"optimizer": ["adam"], "dropout": [0.0, 0.2]}]),
        },
        owes_draws,
        ("objective",),
    ),
    "NuisanceSearch": Fuzzed(
        functools.partial(make_tuner, search.NuisanceSearch, hypermodel=Linear((2,))),
        {
            **{name: ORACLE[name] for name in ("objective", "seed")},
            "structures": WHOLE,
            "settings": WHOLE,
            "structure_hyperparameters": st.sampled_from([[], ["units"]]),
        },
        owes_draws,
        ("objective", "structure_hyperparameters"),
    ),
    "OptunaTuner": Fuzzed(
        functools.partial(make_tuner, search.OptunaTuner, hypermodel=Linear((2,))),
        {
            **{name: ORACLE[name] for name in ("objective", "max_trials", "seed")},
            "sampler": st.sampled_from(["tpe", "cmaes", "qmc", "random"]),
            "pruner": st.sampled_from([None, "none", "median", "patient", "halving", "hyperband"]),
            "storage": st.none(),
            "trials_per_structure": WHOLE,
        },
        owes_draws,
        ("objective",),
        found=tuple({"objective": "val_loss", **more} for more in ({"sampler": 3}, {"storage": 3}, {"storage": True}, {"pruner": "a"})),
    ),
    "Placement": Fuzzed(
        parallel.Placement,
        {
            "workers": WHOLE,
            "ray": st.sampled_from([None, "auto"]),
            **dict.fromkeys(("gpus_per_trial", "trial_timeout", "memory_limit"), st.sampled_from([None, 0.5, 2, np.float32(1)])),
            "isolate": st.integers(0, 3),
            "max_retries": st.integers(0, 3),
            "strategy": st.none(),
        },
        owes_an_equal_one,
        found=(
            {"ray": np.nan},
            {"ray": (1, 2)},
            {"strategy": np.array(["a", "b"])},
            {"workers": np.int64(3), "trial_timeout": np.float32(1)},
        ),
    ),
    "Settings": Fuzzed(
        automl.Settings,
        {
            "tuner": st.sampled_from(["random", "tpe", "cmaes", "qmc", "hyperband", "grid", "genetic"]),
            "pruner": st.sampled_from(["none", "median"]),
            "trials": WHOLE,
            "epochs": WHOLE,
            "repeats": WHOLE,
            "trials_per_structure": st.just(1),
            "seed": st.integers(0, 9),
            "validation": st.sampled_from([0.1, 0.5, np.float32(0.25)]),
            "test": st.sampled_from([0, 0.2]),
            "refit": st.none() | FLAG,
            "folds": st.sampled_from([None, 2, np.int64(5)]),
            "mixed_precision": st.sampled_from([None, "float16", "bfloat16"]),
            "batch_sizes": SIZES,
            "network": st.sampled_from(["auto", "mlp", "residual", "cnn", "resnet", "lstm"]),
            "max_layers": st.none() | WHOLE,
            "widths": st.sampled_from(["same", "pyramid", "free"]),
            "wide": FLAG,
            "patience": st.none() | WHOLE,
            "values": st.just({}),
        },
        owes_an_equal_one,
        found=({"seed": np.int64(3), "refit": np.bool_(True), "validation": Fraction(1, 4)}, {"seed": 2**40}),
    ),
    # The class itself holds what this function has checked.
    "Table": Fuzzed(
        tables.make_table,
        {
            "x": st.sampled_from([np.ones((30, 2)), {"a": np.arange(30), "b": ["x", "y"] * 15}]),
            "y": st.sampled_from([np.arange(30) % 3, np.arange(30.0), ["x", "y", "z"] * 10]),
            "name": st.just("some data"),
            "task": st.sampled_from(["auto", "classification", "regression"]),
            "groups": st.sampled_from([None, np.arange(30) // 3, ["a", "b", "c"] * 10]),
        },
        owes_parts,
        ("x", "y", "name"),
        found=tuple(
            {"x": np.ones((30, 2)), "y": np.arange(30) % 3, "name": "some data", **more}
            for more in (
                {"task": "nothing"},
                {"x": None},
                {"x": {}},
                {"x": np.ones((30, 0))},
                {"x": [[1, 2], [3]]},
                {"x": np.ones((30, 2)) * 1j},
                {"y": [None] * 30},
                {"y": ["a", 1.5, None] * 10},
            )
        ),
    ),
}
BUILT = {name: dataclasses.replace(space, owes=owes_a_network) for name, space in SPACES.items()}


@pytest.fixture(autouse=True)
def _folder(tmp_path, capsys):
    make_tuner.folder = str(tmp_path)


def test_every_class_of_a_search_has_a_strategy():
    rooms = (search, parallel, automl, tables)
    # Layers and metrics are tried with the layers.
    others = (*MADE_BY_US, "BalancedAccuracy", "ClassNames", "PredictionInterval", "TableFeatures", "TargetMetric")
    assert sorted(FUZZED) == sorted(name for room in rooms for name in fuzzing.public(room, others))


def test_what_would_be_taken_silently_for_something_else_is_refused():
    y = np.arange(30) % 3
    for make, argument in (
        (lambda: tables.make_table(np.ones((30, 2)), y, "some data", "ranking"), "`task` must be one of "),
        (lambda: tables.make_table(np.ones((30, 2)) * 1j, y, "some data"), "some data: the inputs are complex128, not numbers."),
        (lambda: tables.make_table(np.ones((30, 2)), y * 1j, "some data"), "some data: the targets are complex128, "),
        (lambda: tables.make_table({}, y, "some data"), "some data: the samples have no inputs."),
        (lambda: search.MLP((2,), features=tables.TableFeatures()), "`features` must be a tables.TableFeatures that has been adapted"),
        (lambda: search.MLP((2, 3), features=FEATURES), "`input_shape` must be (2,), the number of columns, with `features`"),
        (lambda: search.MLP((2,), mean=0, variance=np.inf), "`variance` must be an array of finite numbers"),
        (lambda: search.GeneticOracle("val_loss", max_trials=-1), "`max_trials` must be a whole number of at least 1"),
        (lambda: automl.Settings(seed=2**32), "`seed` must be a whole number of at most "),
        (lambda: parallel.Placement(ray=""), "`ray` must be the address of a cluster, or None"),
    ):
        with pytest.raises((ValueError, TypeError)) as reported:
            make()
        assert str(reported.value).startswith(argument)


def test_a_part_of_a_search_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


@pytest.mark.skipif(fuzzing.BACKEND == "jax", reason="the deep snapshot does it")
def test_a_space_that_can_be_made_builds_a_network():
    fuzzing.quick(BUILT, 2, odd=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_a_part_of_a_search_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, FUZZED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_any_space_that_can_be_made_builds_a_network(name):
    fuzzing.deep(name, BUILT[name], 100, odd=False)
