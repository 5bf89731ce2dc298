"""The losses of the snapshots: what counts as learning, swinging and standing still, shown at the limits."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim, aims, baseline
from keras_ext.callbacks.monitor.rules.loss_course import course_states, has_learned, learning
from keras_ext.callbacks.monitor.rules.sampling_error import sampling_error
from keras_ext.callbacks.monitor.snapshot import Output, Snapshot, Weight

LIMITS = Limits()


def snapshots(*losses, spread=0.5):
    return [Snapshot(10 * i, i, loss, spread, (), ()) for i, loss in enumerate(losses)]


def test_learning_weighs_loss_and_spread():
    assert learning(snapshots(1.0, 0.9, 0.8), LIMITS)
    assert not learning(snapshots(1.0, 0.999, 0.998), LIMITS)
    assert learning(snapshots(1.0, 0.9, 1.1), LIMITS)  # the best of the last counts
    assert learning(snapshots(1.0, 0.9), LIMITS)
    assert learning(snapshots(1.0, 0.4, 0.4, 0.4, 0.4), LIMITS)  # learned, and at rest
    assert not learning(snapshots(1.0, 0.4, 0.4, 0.4, 0.4, spread=0.0), LIMITS)  # fell to a constant
    assert not learning(snapshots(1.0, 0.9, 0.8, spread=0.0), LIMITS)
    assert not learning(snapshots(1.0, 0.5, math.nan), LIMITS)


def test_a_loss_above_that_of_a_constant_prediction_must_fall_faster():
    slow, fast = snapshots(3.0, 2.9, 2.8), snapshots(3.0, 2.8, 2.69)
    assert learning(slow, LIMITS)
    assert not learning(slow, LIMITS, baseline=2.0)
    assert learning(fast, LIMITS, baseline=2.0)
    assert learning(slow, LIMITS, baseline=2.8)


def test_learned_is_half_of_what_a_constant_prediction_costs():
    assert has_learned(snapshots(9.0, 1.0), LIMITS, baseline=2.0)
    assert not has_learned(snapshots(9.0, 1.01), LIMITS, baseline=2.0)
    assert has_learned(snapshots(2.02, 1.01), LIMITS)
    assert not has_learned(snapshots(9.0, 1.0, spread=1e-4), LIMITS, baseline=2.0)


def course(*losses, baseline=math.nan, planned=math.inf):
    return [(s.symptom, s.can_be_critical) for s in course_states(snapshots(*losses), LIMITS, 2, baseline, planned)]


def test_a_loss_that_swings_is_reported_and_can_be_critical_where_it_never_beats_a_constant():
    up_and_down = [2.0, 1.2, 1.5, 1.2, 1.5, 1.2, 1.5]
    assert course(*up_and_down) == [("oscillating_loss", False)]
    assert course(*up_and_down, baseline=1.0) == [("oscillating_loss", True)]
    assert course(*up_and_down, baseline=3.1) == []  # learned: less than half
    assert course(2.0, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4) == []
    assert course(2.0, 1.40, 1.45, 1.40, 1.45, 1.40, 1.45) == []
    assert course(*up_and_down[:6]) == []
    assert course(*up_and_down[:6], math.nan) == []


def test_a_loss_that_stands_where_a_constant_prediction_stands_is_reported():
    assert course(1.2, *[1.0] * 6, baseline=1.0) == [("stalled_loss", False)]
    assert course(*[1.0] * 7) == [("stalled_loss", False)]
    assert course(*[1.0] * 6) == []
    assert list(course_states(snapshots(*[0.0] * 7, spread=0.0), LIMITS, 2, 0.0, math.inf)) == []  # all targets are the same
    assert course(1.2, *[0.8] * 6, baseline=1.0) == []  # at rest, where the data's noise ends it
    assert course(1.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.02, baseline=1.0) == []


def test_swinging_is_measured_by_what_a_constant_prediction_costs_and_by_turns():
    up_and_down = [1.9, 1.0, 1.5, 1.0, 1.5, 1.0, 1.5]
    assert course(*up_and_down, baseline=2.9) == [("oscillating_loss", False)]
    assert course(*up_and_down, baseline=3.0) == []  # it has learned
    assert course(*up_and_down, baseline=1.3) == [("oscillating_loss", False)]  # at times it is better than a constant
    for scale in (0.01, 1.0, 100.0):
        assert course(*[scale * loss for loss in up_and_down]) == [("oscillating_loss", False)]
        assert course(*[scale * loss for loss in (2.0, 1.4, 1.45, 1.4, 1.45, 1.4, 1.45)]) == []
    assert course(2.0, 1.5, 1.9, 1.5, 1.9, 1.5, 1.1) == [("oscillating_loss", False)]  # three turns of four
    assert course(2.0, 1.5, 1.9, 1.5, 1.1, 1.5, 1.9) == []  # two
    assert course(2.0, 1.0, 1.5, 1.5, 1.0, 1.0, 1.5) == []  # to stand is no turn


def test_standing_still_is_measured_by_what_a_constant_prediction_costs():
    assert course(0.2, *[0.1, 0.105] * 3, baseline=0.1) == []
    assert course(0.2, *[0.1, 0.1005] * 3, baseline=0.1) == [("stalled_loss", False)]
    assert course(1.2, *[0.985, 0.992] * 3, baseline=1.0) == []


def test_the_number_and_its_limit_go_with_the_course():
    (swings,) = course_states(snapshots(1.9, 1.0, 1.5, 1.0, 1.5, 1.0, 1.5), LIMITS, 2, 2.5, math.inf)
    assert (swings.value, swings.limit) == (pytest.approx(0.2), 0.1)
    assert "swings by 20% of" in swings.advice
    (stands,) = course_states(snapshots(1.2, *[1.0] * 6), LIMITS, 2, 1.005, math.inf)
    assert (stands.value, stands.limit) == (pytest.approx(1 / 1.005), 0.99)
    assert stands.advice.startswith("For 6 snapshots")


def test_a_loss_that_has_not_begun_to_fall_in_three_quarters_of_the_planned_steps_is_critical():
    stands = [1.0] * 11  # a snapshot every 10 steps
    assert course(*stands, baseline=1.0, planned=133) == [("stalled_loss", True)]
    assert course(*stands, baseline=1.0, planned=134) == [("stalled_loss", False)]
    assert course(*stands[:10], baseline=1.0, planned=100) == [("stalled_loss", False)]  # too few steps
    assert course(*[3.0] * 11, baseline=1.0, planned=133) == [("stalled_loss", True)]  # above a constant
    assert course(*[0.981] * 11, baseline=1.0, planned=133) == [("stalled_loss", True)]
    assert course(*[0.979] * 11, baseline=1.0, planned=133) == []  # it has begun, and the data may have no more
    assert course(*[1.0] * 5, 0.979, *[1.0] * 5, baseline=1.0, planned=133) == []  # it had begun
    lower = [1.0] * 8 + [0.999] * 3  # lately lower than before: it leaves a plateau
    assert course(*lower, baseline=0.995, planned=133) == [("stalled_loss", False)]
    slower = [1.01 - 0.01 * sum(0.8**j for j in range(i)) / 5 for i in range(11)]  # it falls, and ever less
    assert course(*slower, baseline=1.0, planned=133) == [("stalled_loss", True)]
    faster = [1.0 - 1e-4 * i**2 for i in range(11)]
    assert course(*faster, baseline=0.995, planned=133) == [("stalled_loss", False)]
    assert course(*lower, baseline=0.985, planned=133) == [("stalled_loss", True)]  # which is above that of a constant
    assert course(*[1.0] * 7, *[0.999] * 4, baseline=0.995, planned=133) == [("stalled_loss", True)]  # not lately
    assert course(*[9.0 * 0.8**i for i in range(11)], baseline=0.5, planned=133) == []  # it falls
    assert course(*stands, planned=133) == [("stalled_loss", False)]  # what a constant costs is not known


def test_a_constant_prediction_pays_no_penalties():
    found = [replace(snapshot, penalty=0.3) for snapshot in snapshots(2.0, *[1.2] * 10)]
    assert not learning(found, LIMITS, baseline=1.0)
    assert [s.symptom for s in course_states(found, LIMITS, 2, 1.0, 133)] == []  # .9 on the data: it has begun
    paid = [replace(snapshot, penalty=0.2) for snapshot in found]
    (late,) = course_states(paid, LIMITS, 2, 1.0, 133)
    assert late.advice.startswith("75% of the planned steps are taken, and the loss is 1.2, of which 0.2 are penalties; a constant")
    learned = [replace(snapshot, penalty=0.71) for snapshot in found]
    assert has_learned(learned, LIMITS, baseline=1.0)
    assert not has_learned(learned, LIMITS)  # what a constant costs is not known, and the first loss had penalties, too
    assert learning([replace(s, penalty=0.2) for s in snapshots(3.0, 2.9, 2.8)], LIMITS, baseline=2.6)


def test_a_loss_that_few_samples_do_not_tell_from_a_lower_one_is_not_late():
    def late(loss, deviation, samples, name="mean_squared_error"):
        output = Output(1, -1.0, 1.0, 0.0, 0.5, deviation)
        found = [replace(snapshot, outputs=(output,)) for snapshot in snapshots(*[loss] * 11)]
        error = sampling_error(found[-1], [Aim(name, False, -3.0, 3.0, 1.0, 1.0, deviation=1.0)], samples)
        return [s.can_be_critical for s in course_states(found, LIMITS, 2, 1.0, 133, error=error)] == [True]

    # Two standard errors: 4 * .2 / 16 = .05.
    assert not late(1.029, 0.2, 256)
    assert late(1.031, 0.2, 256)
    assert late(1.0, 0.0, 256)
    assert late(1.029, 0.2, 512)
    assert late(1.029, 0.2, 256, "mean_absolute_error")


def test_the_standard_error_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    y, p = 2.0 * rng.normal(size=(4000, 64)), 0.3 * rng.normal(size=(4000, 64))
    measured = np.mean((y - p) ** 2 - y**2, axis=1).std()  # 0 is the best constant for all samples
    aim, output = Aim("mean_squared_error", False, -9.0, 9.0, 2.0, 4.0, deviation=2.0), Output(1, -1.0, 1.0, 0.0, 1.0, 0.3)
    snapshot = replace(snapshots(4.0)[0], outputs=(output,))
    assert sampling_error(snapshot, [aim], 64) == pytest.approx(2 * measured, rel=0.05)
    assert sampling_error(snapshot, [replace(aim, weight=3.0)], 64) == pytest.approx(3 * sampling_error(snapshot, [aim], 64))
    assert sampling_error(snapshot, [aim, aim], 64) == sampling_error(snapshot, [None], 64) == sampling_error(snapshot, [aim], 0) == 0.0


def test_a_weak_signal_in_noisy_targets_is_learned_without_an_alarm():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(4000, 6)).astype("float32")
    signal = 0.22 * x[:, :1] - 0.12 * x[:, 1:2]
    y = (signal + rng.normal(size=(4000, 1))).astype("float32")  # of whose variance a twentieth can be learned
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(8, "tanh", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    monitor = SaturationMonitor(x, y)
    model.fit(x, y, epochs=10, verbose=0, callbacks=[monitor])
    assert np.corrcoef(model.predict(x, verbose=0)[:, 0], signal[:, 0])[0, 1] > 0.8
    assert [f.symptom for f in monitor.findings if f.severity == "critical"] == []


def test_a_loss_that_falls_below_zero_faster_and_faster_is_critical():
    bottomless = [0.5, -1.0, -4.0, -9.0, -16.0, -25.0, -36.0]
    assert course(*bottomless, baseline=math.nan) == [("unbounded_loss", True)]
    (found,) = course_states(snapshots(*bottomless), LIMITS, 2, math.nan, math.inf)
    assert (found.fatal, found.value) == (True, 36.0)
    assert course(*bottomless[:6], baseline=math.nan) == []
    assert course(*[loss + 40 for loss in bottomless], baseline=math.nan) == []  # above 0
    assert course(*[0.0, -1.0, -1.5, -2.1, -2.8, -3.6, -4.5], baseline=math.nan) == []  # four times as far
    assert course(*[0.0, -1.0, -20.0, -30.0, -38.0, -44.0, -49.0], baseline=math.nan) == []  # more and more slowly: it has a least value
    assert course(*[0.5, -1.0, -4.0, -9.0, -16.0, -15.0, -36.0], baseline=math.nan) == []


def test_a_loss_that_rises_a_hundredfold_without_a_fall_is_critical():
    assert course(*[4.0**i for i in range(7)], baseline=math.nan) == [("rising_loss", True)]
    assert course(*[2.0**i for i in range(7)]) == []  # 64 times
    assert course(*[4.0**i for i in range(6)]) == []
    assert course(*[4.0**i for i in (0, 1, 2, 3, 2, 5, 6)]) == []  # one fall, and no swing between levels
    assert course(*[-(4.0**-i) for i in range(7)]) == []  # from below towards 0


def test_a_loss_that_stands_while_kernels_go_far_needs_no_longer_steps():
    def kernel(update):
        return Weight("a", "a/kernel", True, 0.1, 1.0, 1.0, 0.0, True, update=update)

    for updates, advised in (((0.6, 0.7, 0.0), "Lower the learning rate"), ((0.1, 0.2, 0.9), "Raise the learning rate"), ((), "Raise")):
        course = [replace(each, weights=tuple(map(kernel, updates))) for each in snapshots(*[1.0] * 11)]
        (stands,) = course_states(course, LIMITS, 2, 1.0, 133)
        assert advised in stands.advice.split(". ")[1]


RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 3, 60)
TARGETS = {
    "sparse_categorical_crossentropy": CLASSES,
    "categorical_crossentropy": np.eye(3)[CLASSES],
    "binary_crossentropy": RNG.integers(0, 2, (60, 2)).astype("float32"),
    "mean_squared_error": RNG.normal(size=(60, 2)).astype("float32"),
    "mean_absolute_error": RNG.normal(size=(61, 2)).astype("float32"),
}
SKEWED = RNG.lognormal(1.0, 0.7, size=(200, 1)).astype("float32")


@pytest.mark.parametrize("loss", TARGETS)
def test_the_baseline_is_the_least_that_a_constant_prediction_costs(loss):
    y = TARGETS[loss]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile(loss=loss)
    reported = baseline(aims(model, y))
    best = np.median(y, axis=0) if "absolute" in loss else np.eye(3)[CLASSES].mean(axis=0) if "sparse" in loss else y.mean(axis=0)

    def cost(constant):
        return float(keras.ops.mean(keras.losses.get(loss)(y, np.tile(constant, (len(y), 1)).astype("float32"))))

    assert reported == pytest.approx(cost(best), rel=2e-6)
    for step in (0.05, -0.05):
        other = best + step * np.eye(len(best))[0]
        assert cost(other / other.sum() if "categorical" in loss else other) > reported


@pytest.mark.parametrize("loss", ["huber", "log_cosh", "mean_squared_logarithmic_error", "mean_absolute_percentage_error"])
def test_the_baseline_of_losses_without_a_formula_is_that_of_the_best_of_some_constants(loss):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss=loss)
    y = SKEWED.astype("float64")[:, 0]
    costs = {
        "huber": lambda c: np.where(np.abs(y - c) <= 1, 0.5 * (y - c) ** 2, np.abs(y - c) - 0.5),
        "log_cosh": lambda c: np.log(np.cosh(y - c)),
        "mean_squared_logarithmic_error": lambda c: (np.log1p(y) - np.log1p(c)) ** 2,
        "mean_absolute_percentage_error": lambda c: 100 * np.abs(y - c) / y,
    }
    best = min(float(np.mean(costs[loss](c))) for c in np.linspace(0, y.max(), 2000))
    assert best - 1e-6 < baseline(aims(model, SKEWED)) < 1.06 * best


def test_the_baseline_is_not_reported_where_it_is_not_known():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    for loss in (
        "poisson",
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        keras.losses.MeanSquaredError(reduction="sum"),
    ):
        model.compile(loss=loss)
        assert math.isnan(baseline(aims(model, np.eye(2))))
    model.compile(loss="mse")
    assert baseline(aims(model, np.eye(2))) == pytest.approx(0.25)
    assert math.isnan(baseline(aims(model, np.eye(2), sample_weight=np.ones(2))))


def test_the_baseline_of_several_outputs_is_the_weighted_sum():
    rng = np.random.default_rng(0)
    inputs = keras.Input((1,))
    ends = [keras.layers.Dense(3, "softmax", name="kind")(inputs), keras.layers.Dense(1, name="area")(inputs)]
    kinds, areas = rng.integers(0, 3, 90), rng.normal(size=(90, 1)).astype("float32")
    shares = np.bincount(kinds) / 90
    entropy, variance = -np.sum(shares * np.log(shares)), areas.var()
    losses = {"kind": "sparse_categorical_crossentropy", "area": "mse"}
    for outputs in (ends, dict(zip(losses, ends, strict=True))):
        model = keras.Model(inputs, outputs)
        names = [end.shape[-1] for end in keras.tree.flatten(model(np.zeros((2, 1))))]  # as the monitor sees them
        for given in ({"loss": losses}, {"loss": losses, "loss_weights": {"kind": 2.0, "area": 0.1}}):
            y = {"area": areas, "kind": kinds}
            model.compile(**given)
            found, weights = aims(model, y), given.get("loss_weights", {"kind": 1.0, "area": 1.0})
            assert [aim.units for aim in found] == [1] * 2
            assert [aim.loss for aim in found] == [{3: losses["kind"], 1: "mean_squared_error"}[units] for units in names]
            assert baseline(found) == pytest.approx(weights["kind"] * entropy + weights["area"] * variance, rel=1e-5)
    model = keras.Model(inputs, ends)
    model.compile(loss=["poisson", "mse"])
    assert math.isnan(baseline(aims(model, [kinds[:, None], areas])))


def test_an_aim_is_read_from_loss_and_targets():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    (aim,) = aims(model, np.array([[0.0], [1.0]]))
    assert (aim.loss, aim.from_logits, aim.high, round(aim.baseline, 3)) == ("binary_crossentropy", True, 1.0, 0.693)


def test_where_the_kernels_have_grown_long_before_the_loss_stood_the_advice_is_a_lower_rate():
    def kernel(norm):
        return Weight("h", "h/kernel", True, 1.0, norm, 1.0, 0.0, True, update=0.001)

    def advice(*norms):
        course = [replace(s, weights=(kernel(n),)) for s, n in zip(snapshots(*[1.0] * 8), norms, strict=True)]
        return next(s.advice for s in course_states(course, LIMITS, 2, 1.0, math.inf) if s.symptom == "stalled_loss")

    assert "Raise the learning rate" in advice(*[1.0] * 8)
    assert "Raise the learning rate" in advice(1.0, *[2.9] * 7)
    assert "Lower the learning rate tenfold" in advice(1.0, *[3.1] * 7)
    # A kernel that starts at zero has no first length.
    assert "Raise the learning rate" in advice(0.0, *[3.1] * 7)


def test_of_a_network_without_activations_the_advice_asks_for_them():
    stands = snapshots(*[1.0] * 11)
    (found,) = course_states(stands, LIMITS, 2, 1.0, 133, is_linear=True)
    assert "activation='relu'" in found.advice
    (found,) = course_states(stands, LIMITS, 2, 1.0, 133)
    assert "activation" not in found.advice
