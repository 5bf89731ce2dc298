"""What goes in, what comes out and what is aimed at: on models that fit and that do not, and on made-up numbers at the limits."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.statistics import id_statistics
from keras_ext.callbacks.monitor.probe.targets import Aim, aims
from keras_ext.callbacks.monitor.rules.mismatch import mismatches
from keras_ext.callbacks.monitor.snapshot import Activation, Ids, Output, Snapshot, Weight

BCE, CCE, SCCE = keras.losses.BinaryCrossentropy, keras.losses.CategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy
RNG = np.random.default_rng(0)
CLASSES = np.arange(64) % 3
TARGETS = {
    "bits": (CLASSES > 0)[:, None].astype("float32"),
    "signs": np.where(CLASSES > 0, 1.0, -1.0)[:, None],
    "classes": CLASSES,
    "one-hot": np.eye(3)[CLASSES],
    "numbers": RNG.normal(size=(64, 1)),
    "large": 1e4 * RNG.normal(size=(64, 1)),
    "shares": RNG.uniform(size=(64, 1)),
    "fractions": CLASSES + 0.5,
    "several": np.eye(3)[CLASSES] + np.eye(3)[(CLASSES + 1) % 3],
}


def found(units, activation, loss, targets, scale=1.0, layers=()):
    x = scale * RNG.normal(size=(64, 4)).astype("float32")
    last = keras.layers.Dense(units, activation, name="last", kernel_initializer=keras.initializers.RandomNormal(seed=1, stddev=2.0))
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(8, "relu"), last])
    model.compile(keras.optimizers.SGD(1e-6), loss)
    monitor = SaturationMonitor(x, TARGETS[targets], on_critical=None)
    model.fit(x, TARGETS[targets], epochs=1, verbose=0, callbacks=[monitor])
    return {
        (f.symptom, f.layer): f.advice for f in monitor.findings if f.symptom in ("output_mismatch", "unscaled_target", "unscaled_input")
    }


@pytest.mark.parametrize(
    ("units", "activation", "loss", "targets", "layer", "advice"),
    [
        (1, None, "binary_crossentropy", "bits", None, "End it with sigmoid"),
        (1, "sigmoid", BCE(from_logits=True), "bits", "last", "ends with one. Leave it out."),
        (1, "sigmoid", "binary_crossentropy", "signs", "last", "takes targets from 0 to 1, got -1 to 1."),
        (1, "softmax", "categorical_crossentropy", "bits", "last", "a unit a class"),
        (3, None, "categorical_crossentropy", "one-hot", None, "End it with softmax"),
        (3, "sigmoid", "categorical_crossentropy", "one-hot", "last", "End it with softmax"),
        (3, "softmax", CCE(from_logits=True), "one-hot", "last", "ends with one. Leave it out."),
        (3, "softmax", SCCE(from_logits=True), "classes", "last", "ends with one. Leave it out."),
        (1, "sigmoid", "mse", "numbers", "last", "cannot reach targets"),
        (1, "tanh", keras.losses.Huber(), "large", "last", "cannot reach targets"),
        (1, "relu", "mean_absolute_error", "signs", "last", "cannot reach targets"),
        (3, "softmax", "sparse_categorical_crossentropy", "fractions", "last", "drops fractions, got targets from 0.5 to 2.5."),
        (3, "softmax", "categorical_crossentropy", "several", "last", "got rows with 2 ones. End the output with sigmoid"),
    ],
)
def test_an_output_that_its_loss_cannot_use_is_named(units, activation, loss, targets, layer, advice):
    if targets == "signs" and loss == "binary_crossentropy" and keras.backend.backend() == "torch":
        pytest.skip("PyTorch refuses such targets itself")
    reported = found(units, activation, loss, targets)
    assert advice in reported["output_mismatch", layer]


@pytest.mark.parametrize(
    ("units", "activation", "loss", "targets"),
    [
        (1, "sigmoid", "binary_crossentropy", "bits"),
        (1, None, BCE(from_logits=True), "bits"),
        (3, "softmax", "categorical_crossentropy", "one-hot"),
        (3, "softmax", "sparse_categorical_crossentropy", "classes"),
        (3, None, SCCE(from_logits=True), "classes"),
        (3, "sigmoid", "binary_crossentropy", "one-hot"),
        (1, None, "mse", "numbers"),
        (1, "sigmoid", "mse", "bits"),
        (1, "sigmoid", "mse", "shares"),
        (1, "tanh", "mse", "signs"),
        (1, "relu", "mse", "shares"),
        (1, None, lambda y, p: keras.ops.mean(keras.ops.square(y - p)), "numbers"),
    ],
)
def test_what_fits_is_not_named(units, activation, loss, targets):
    assert found(units, activation, loss, targets) == {}


def test_targets_of_another_scale_are_named():
    assert set(found(1, None, "mse", "large")) == {("unscaled_target", None)}
    assert found(1, None, "mse", "numbers") == {}


def test_inputs_of_another_scale_are_named_unless_the_model_scales_them():
    assert set(found(1, None, "mse", "numbers", scale=100.0)) == {("unscaled_input", None)}
    assert found(1, None, "mse", "numbers", scale=100.0, layers=[keras.layers.Rescaling(0.01)]) == {}
    assert found(1, None, "mse", "numbers", scale=5.0) == {}


def test_each_of_several_outputs_has_its_own_aim():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, name="a")(inputs), "b": keras.layers.Dense(3, "softmax", name="b")(inputs)})
    model.compile(keras.optimizers.SGD(1e-6), {"a": "binary_crossentropy", "b": "sparse_categorical_crossentropy"})
    x, y = 9 * RNG.normal(size=(64, 4)), {"a": TARGETS["bits"], "b": TARGETS["classes"]}
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    (reported,) = [f for f in monitor.findings if f.symptom == "output_mismatch"]
    assert "output 1 gives" in reported.advice
    assert [len(snapshot.outputs) for snapshot in monitor.snapshots] == [2] * len(monitor.snapshots)
    assert [o.units for o in monitor.snapshots[0].outputs] == [1, 3]


def states(outputs, aims, kinds=(), input_rms=1.0):
    """What made-up outputs show; `kinds` are the activations of layers a, b and so on, in capitals of hidden ones."""
    ends = [Activation(n, k.lower(), "", k.islower(), 0.0, 0.0, 0.0, 0.0, 1.0, True) for n, k in zip("abc", kinds, strict=False)]
    return list(mismatches(Snapshot(0, 0, 1.0, 0.5, tuple(ends), (), outputs=tuple(outputs), input_rms=input_rms), aims, Limits()))


def numbers(*arguments, **more):
    return [(s.symptom, s.value, s.limit, s.can_be_critical and not s.needs_others) for s in states(*arguments, **more)]


PROBABILITIES = Output(1, 0.0, 1.0, 1.0, 0.5)


def test_the_scale_of_inputs_and_targets_is_judged_at_its_limit_and_never_critical_alone():
    assert numbers([], [], input_rms=10.0) == []
    assert numbers([], [], input_rms=10.1) == [("unscaled_input", 10.1, 10.0, False)]
    assert numbers([], [], input_rms=0.005) == numbers([], [], input_rms=0.0) == []  # no array of numbers
    assert numbers([], [], input_rms=0.004) == [("unscaled_input", 0.004, 0.005, False)]
    for rms, loss, expected in ((100.0, "huber", []), (101.0, "huber", [("unscaled_target", 101.0, 100.0, False)]), (101.0, "poisson", [])):
        assert numbers([replace(PROBABILITIES, low=0.1)], [Aim(loss, False, -1.0, 1.0, rms)]) == expected
    assert numbers([], [Aim("huber", False, -1.0, 1.0, 101.0)]) == []  # of which output is not known


def test_an_output_is_named_by_its_own_layer_and_number():
    logits = Aim("binary_crossentropy", True, 0.0, 1.0, 1.0)
    assert [(s.layer, "output 2 ends" in s.advice) for s in states([PROBABILITIES] * 2, [logits] * 2, ["sigmoid", "sigmoid"])] == [
        ("a", False),
        ("b", True),
    ]
    assert [s.layer for s in states([PROBABILITIES] * 2, [None, logits], ["sigmoid", "sigmoid"])] == ["b"]
    # Which of the two it belongs to is not known.
    assert states([PROBABILITIES] * 2, [logits] * 2, ["sigmoid"]) == []
    (alone,) = states([PROBABILITIES], [logits], ["SIGMOID", "sigmoid"])
    assert (alone.layer, "the output ends" in alone.advice) == ("b", True)
    assert states([PROBABILITIES], [logits], ["SIGMOID"]) == []


@pytest.mark.parametrize(
    ("kind", "low", "high", "worst"),
    [
        ("sigmoid", -0.019, 1.019, None),
        ("sigmoid", -0.03, 1.0, (-0.03, 0.0)),
        ("sigmoid", 0.0, 1.03, (1.03, 1.0)),
        ("sigmoid", -3.0, 2.0, (-3.0, 0.0)),
        ("sigmoid", -2.0, 4.0, (4.0, 1.0)),
        ("hard_sigmoid", -0.03, 1.0, (-0.03, 0.0)),
        ("tanh", -1.0, 1.0, None),
        ("tanh", -1.1, 1.0, (-1.1, -1.0)),
        ("softsign", -1.0, 1.0, None),
        ("softsign", -1.1, 1.0, (-1.1, -1.0)),
        ("relu", 0.0, 90.0, None),
        ("relu", -9.0, 90.0, (-9.0, 0.0)),
    ],
)
def test_targets_beyond_an_activations_range_are_reported_with_the_worse_end(kind, low, high, worst):
    expected = [] if worst is None else [("output_mismatch", *worst, True)]
    assert numbers([PROBABILITIES], [Aim("mean_squared_error", False, low, high, 1.0)], [kind]) == expected


@pytest.mark.parametrize(
    ("low", "high", "target", "worst"),
    [
        (-0.01, 1.01, (0.0, 1.0), None),
        (-0.03, 1.0, (0.0, 1.0), (-0.03, 0.0)),
        (0.0, 1.03, (0.0, 1.0), (1.03, 1.0)),
        (0.0, 1.0, (-0.5, 1.0), (-0.5, 0.0)),
        (0.0, 1.0, (0.0, 1.5), (1.5, 1.0)),
    ],
)
def test_probabilities_and_their_targets_are_from_0_to_1(low, high, target, worst):
    expected = [] if worst is None else [("output_mismatch", *worst, True)]
    assert numbers([Output(1, low, high, 1.0, 0.5)], [Aim("binary_crossentropy", False, *target, 1.0)]) == expected
    beyond = [] if target == (0.0, 1.0) else expected
    assert numbers([Output(1, low, high, 1.0, 0.5)], [Aim("binary_crossentropy", True, *target, 1.0)]) == beyond


@pytest.mark.parametrize(
    ("units", "low", "sum_off", "from_logits", "worst"),
    [
        (3, -0.01, 0.02, False, None),
        (3, -0.03, 0.0, False, (-0.03, 0.0)),
        (3, 0.0, 0.03, False, (0.03, 0.02)),
        (3, -0.03, 0.0, True, None),
        (3, 0.0, 0.03, True, None),
        (3, 0.0, 0.01, True, (0.01, 0.02)),
        (1, 0.0, 0.9, False, (1.0, 2.0)),
        (1, 0.0, 0.9, True, (1.0, 2.0)),
    ],
)
def test_choices_are_probabilities_that_add_up_to_1_unless_they_are_logits(units, low, sum_off, from_logits, worst):
    expected = [] if worst is None else [("output_mismatch", *worst, True)]
    assert numbers([Output(units, low, 1.0, sum_off, 0.5)], [Aim("categorical_crossentropy", from_logits, 0.0, 1.0, 0.5)]) == expected


def test_a_faint_embedding_is_a_matter_of_its_first_weights():
    tokens = Weight("tokens", "tokens/embeddings", True, 0.1, 5.0, 1.0, 0.0, True)
    (state,) = mismatches(Snapshot(0, 0, 1.0, 0.5, (), (tokens,), input_rms=1e-8), [], Limits())
    assert (state.symptom, state.layer, state.needs_others) == ("poor_initialization", "tokens", True)


def test_a_softmax_on_one_unit_is_named_whatever_the_loss():
    for loss in ("binary_crossentropy", "mean_squared_error"):
        (state,) = states([Output(1, 1.0, 1.0, 0.0, 0.0)], [Aim(loss, False, 0.0, 1.0, 0.7)], ["softmax"])
        assert state.symptom == "output_mismatch"
        assert state.advice.startswith("A softmax over the one unit of the output is 1 whatever the input.")


@pytest.mark.parametrize(("kind", "is_found"), [("relu", True), ("tanh", True), ("sigmoid", False)])
def test_an_activation_that_ends_in_no_probabilities_is_named_even_where_its_values_are_some(kind, is_found):
    found = states([Output(1, 0.1, 0.9, 0.9, 0.5)], [Aim("binary_crossentropy", False, 0.0, 1.0, 0.7)], [kind])
    assert [s.symptom for s in found] == ["output_mismatch"] * is_found


def test_the_cosine_of_one_unit_is_named():
    (found,) = states([Output(1, -2.0, 2.0, 0.9, 0.5)], [Aim("cosine_similarity", False, -1.0, 1.0, 0.7, units=1)], [""])
    assert found.symptom == "output_mismatch"
    assert "one unit" in found.advice
    assert states([Output(3, -2.0, 2.0, 0.9, 0.5)], [Aim("cosine_similarity", False, -1.0, 1.0, 0.7, units=3)], [""]) == []


def test_a_relu_that_is_not_seen_from_outside_shows_in_its_lowest_output():
    inner = keras.layers.TimeDistributed(keras.layers.Dense(1, "relu"))
    model = keras.Sequential([keras.Input((5, 4)), inner])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 5, 4)).astype("float32")
    below, above = diagnose(model, x, x[..., :1]), diagnose(model, x, np.abs(x[..., :1]))
    assert "cannot reach targets" in next(f.advice for f in below.findings if f.symptom == "output_mismatch")
    assert not [f for f in above.findings if f.symptom == "output_mismatch"]
    linear = keras.Sequential([keras.Input((5, 4)), keras.layers.TimeDistributed(keras.layers.Dense(1))])
    linear.compile("sgd", "mse")
    assert not [f for f in diagnose(linear, x, x[..., :1]).findings if f.symptom == "output_mismatch"]


@pytest.mark.parametrize(
    ("deviation", "units", "loss", "is_found"),
    [
        (0.019, 1, "mean_squared_error", True),
        (0.021, 1, "mean_squared_error", False),
        (0.019, 2, "mean_squared_error", False),  # of another shape
        (0.019, 1, "sparse_categorical_crossentropy", False),
    ],
)
def test_predictions_that_vary_much_less_than_the_targets_are_constant(deviation, units, loss, is_found):
    output, aim = Output(units, 0.0, 1.0, 0.0, 0.5, deviation), Aim(loss, False, 0.0, 1.0, 0.7, 1.0, 1.0, 1)
    found = [s for s in mismatches(Snapshot(90, 9, 1.0, 0.5, (), (), outputs=(output,)), [aim], Limits()) if s.symptom == "constant_output"]
    assert len(found) == is_found
    assert not any(s.can_be_critical or s.quiet for s in found)


def classes(targets, units=3, weights=None, **loss):
    """Return the findings of targets that are no classes of the output, and whether they are critical."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "softmax", name="last")])
    model.compile("sgd", SCCE(**loss))
    findings = diagnose(model, np.ones((len(targets), 4), "float32"), targets, sample_weight=weights).findings
    return [(f.severity, f.advice) for f in findings if f.symptom == "output_mismatch"]


def test_classes_that_the_output_does_not_have_are_critical_at_once_though_no_loss_can_be_computed():
    seen = "sparse_categorical_crossentropy takes class numbers from 0 to 2, as the output has 3 units"
    assert classes(CLASSES + 1) == [("critical", f"{seen}, got 1 to 3. Subtract 1.")]
    fix = "Count the classes from 0, and give the output a unit a class."
    assert classes(CLASSES + 2) == [("critical", f"{seen}, got 2 to 4. {fix}")]
    assert classes(CLASSES - 1) == [("critical", f"{seen}, got -1 to 1. {fix}")]
    assert classes(CLASSES) == classes(CLASSES - 1, ignore_class=-1) == []


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="elsewhere a class that does not exist is an error whatever its weight")
def test_targets_of_no_weight_are_not_judged():
    assert classes(CLASSES - 1, weights=(CLASSES > 0).astype("float32")) == []


def test_classes_on_another_axis_are_not_counted():
    loss = SCCE(axis=1)
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Permute((3, 1, 2)), keras.layers.Softmax(axis=1)])
    model.compile("sgd", loss)
    (aim,) = aims(model, np.full((2, 4, 4), 3))
    assert aim.units == 0


@pytest.mark.parametrize(("activation", "units", "loss", "targets"), [("softmax", 3, SCCE, CLASSES), ("sigmoid", 1, BCE, TARGETS["bits"])])
def test_logits_that_keras_finds_again_are_a_warning_alone(activation, units, loss, targets):
    x = RNG.normal(size=(64, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(units, activation, name="last")])
    model.compile("sgd", loss(from_logits=True))
    monitor = SaturationMonitor(x, targets, on_critical=None, limits=Limits(lasting_steps=0))
    model.fit(x, targets, epochs=4, verbose=0, callbacks=[monitor])
    kinds = {f.severity for f in monitor.findings if f.symptom == "output_mismatch"}
    assert kinds == ({"warning"} if keras.backend.backend() == "tensorflow" else {"warning", "critical"})


def fitted(outputs, loss, y, steps=12, rate=0.0):
    x = np.random.default_rng(3).normal(size=(len(y), 4)).astype("float32")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, outputs(inputs))
    model.compile(keras.optimizers.SGD(rate), loss)
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=steps, batch_size=16, verbose=0, callbacks=[monitor])
    return monitor


def test_outputs_in_a_dict_of_targets_are_paired_by_name():
    """The heads stand in another order than their names in the alphabet."""
    rng = np.random.default_rng(0)
    x, inputs = rng.normal(size=(64, 4)).astype("float32"), keras.Input((4,))
    ends = {"kind": keras.layers.Dense(3, "softmax", name="kind")(inputs), "box": keras.layers.Dense(2, "sigmoid", name="box")(inputs)}
    y = {"kind": CLASSES, "box": rng.uniform(0, 15, size=(64, 2)).astype("float32")}
    for outputs in (list(ends.values()), ends):
        model = keras.Model(inputs, outputs)
        model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "box": "mse"})
        monitor = SaturationMonitor(x, y, on_critical=None)
        model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
        assert {f.layer for f in monitor.findings if f.symptom == "output_mismatch"} == {"box"}


def test_with_a_loss_of_ones_own_predictions_that_come_to_nothing_are_critical():
    """Of a Dice loss whose smoothing term drowns it, the least value is not known."""
    y = (np.random.default_rng(1).uniform(size=(96, 1)) > 0.7).astype("float32")

    def dice(y_true, y_pred):
        both = keras.ops.sum(y_true * y_pred)
        return 1 - (2 * both + 1e7) / (keras.ops.sum(y_true) + keras.ops.sum(y_pred) + 1e7)

    def outputs(x):
        # As it is after some steps: nothing is foreground.
        return keras.layers.Dense(1, "sigmoid", bias_initializer=keras.initializers.Constant(-15.0))(x)

    found = fitted(outputs, dice, y, steps=20).findings
    assert ("constant_output", "critical") in {(f.symptom, f.severity) for f in found}
    known = fitted(outputs, "binary_crossentropy", y, steps=20).findings
    assert any(f.symptom == "constant_output" for f in known)


@pytest.mark.parametrize(
    ("ids", "rows", "dtype", "share"),
    [
        (np.arange(60) % 10, 10, "int32", None),
        (np.arange(60) % 10, 10, "float32", None),  # whole numbers
        (np.arange(60) % 10 / 10, 10, "float32", ("fractions", 0.9)),
        (np.arange(60) % 10 - 1, 10, "int32", ("outside", 0.1)),
        (np.arange(60) % 10, 5, "int32", ("outside", 0.5)),
    ],
)
def test_ids_that_are_no_rows_of_an_embedding_are_found(ids, rows, dtype, share):
    numbers = map(float, ops.convert_to_numpy(id_statistics(ops.convert_to_tensor(ids.astype(dtype)), rows)))
    seen = Ids("e", *numbers)
    expected = {"fractions": 0.0, "outside": 0.0, **dict([share] if share else [])}
    assert (seen.fractions, seen.outside) == pytest.approx((expected["fractions"], expected["outside"]))
    states = list(mismatches(Snapshot(0, 0, 1.0, 1.0, (), (), embeddings=(seen,)), (), Limits()))
    assert [(s.symptom, s.layer) for s in states] == ([] if share is None else [("invalid_ids", "e")])


def test_scaled_ids_are_critical_in_a_fit():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, (256, 4))
    y = (ids.sum(axis=1) > 38).astype("float32")
    for scale, is_found in ((1, False), (20, True)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Embedding(20, 4, name="rows"), keras.layers.Flatten(),
                                  keras.layers.Dense(1, "sigmoid")])  # fmt: skip
        model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
        monitor = SaturationMonitor(ids / scale, y, on_critical=None)
        model.fit(ids / scale, y, epochs=20, verbose=0, callbacks=[monitor])
        found = [(f.symptom, f.layer) for f in monitor.findings if f.severity == "critical"]
        assert found == ([("invalid_ids", "rows")] if is_found else [])


@pytest.mark.parametrize(("kind", "is_found"), [("cosines", True), ("scaled", False), (None, False)])
def test_logits_that_are_cosines_are_reported(kind, is_found):
    class Cosines(keras.layers.Layer):
        def build(self, shape):
            self.centres = self.add_weight(shape=(shape[-1], 10), initializer="glorot_uniform")

        def call(self, x):
            return (10.0 if kind == "scaled" else 1.0) * ops.normalize(x) @ ops.normalize(self.centres, axis=0)

    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 512)
    x = (np.eye(10)[y] + 0.1 * rng.normal(size=(512, 10))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(3), Cosines() if kind else keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(0.01), SCCE(from_logits=True))
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=14, verbose=0, callbacks=[monitor])
    found = [f.advice for f in monitor.findings if f.symptom == "output_mismatch"]
    assert ["as cosines do" in advice for advice in found] == ([True] if is_found else [])


def test_logits_behind_tanh_are_reported():
    assert "keeps its logits between -1 and 1" in found(3, "tanh", SCCE(from_logits=True), "classes")["output_mismatch", "last"]


@pytest.mark.parametrize("units", [1, 3])
def test_targets_of_one_class_are_named_and_cost_no_constant(units):
    x = RNG.normal(size=(64, 4)).astype("float32")
    loss = "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "sigmoid" if units == 1 else "softmax")])
    model.compile("adam", loss)
    for y, is_found in ((np.ones((64, 1)), True), (np.arange(64)[:, None] % 2, False)):
        (aim,) = aims(model, y)
        assert (aim.is_one_class, np.isnan(aim.baseline)) == (is_found, is_found)
        said = [f.advice for f in diagnose(model, x, y).findings]
        assert any(advice.startswith("All targets of the output are 1.") for advice in said) == is_found
    # Of rows, as those of negative samples, one class is always the right one.
    model.compile("adam", "categorical_crossentropy")
    assert not aims(model, np.eye(3)[np.zeros(64, int)])[0].is_one_class


@pytest.mark.parametrize(
    ("low", "high", "epoch", "is_found"),
    [(-1.0, 0.95, 4, True), (-1.0, 0.95, 3, False), (-1.5, 0.95, 4, False), (-1.0, 0.8, 4, False), (-1.0, 1.1, 4, False)],
)
def test_cosines_fill_their_range_and_do_not_leave_it(low, high, epoch, is_found):
    aim = Aim("sparse_categorical_crossentropy", True, 0.0, 9.0, 5.0, baseline=2.3, units=1)
    snapshot = Snapshot(100, epoch, 1.5, 1.0, (), (), outputs=(Output(10, low, high, 3.0, 0.5, 0.5),))
    assert [s.symptom for s in mismatches(snapshot, (aim,), Limits())] == (["output_mismatch"] if is_found else [])
