"""What a training is set to: frozen layers, dropout, weight decay and steps that lead nowhere, and their healthy twins."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks import Limits, SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.probe.training import Step, Training, penalty_on_outputs, step_of, training_of
from keras_ext.callbacks.monitor.rules.settings import pressed_states, setting_states, step_states
from keras_ext.callbacks.monitor.snapshot import Snapshot, Weight


def data(samples=512):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, 8)).astype("float32")
    return x, (np.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]).astype("float32")


def network(optimizer="adam", dropout=0.0):
    layers = [keras.layers.Dense(32, "relu", kernel_initializer=keras.initializers.HeNormal(i), name=f"h{i}") for i in range(3)]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dropout(dropout, name="drop"), keras.layers.Dense(1, name="out")])
    model.compile(optimizer, "mse")
    return model


def fit(model, epochs=8, batch_size=16):
    keras.utils.set_random_seed(1)
    x, y = data()
    monitor = SaturationMonitor(x, y, on_critical=None)
    history = model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[monitor])
    return monitor, history.history["loss"]


def critical(monitor):
    return {f.symptom for f in monitor.findings if f.severity == "critical"}


def test_a_model_of_which_nothing_can_train_is_critical_before_the_first_step():
    model = network()
    model.trainable = False
    model.compile("adam", "mse")
    monitor, _ = fit(model, epochs=1)
    (found,) = [f for f in monitor.findings if f.symptom == "frozen"]
    assert (found.severity, found.step, found.layer) == ("critical", 0, None)
    assert found.advice == (
        'No weight can change: "h0", "h1", "h2" and 1 more are frozen. Set trainable=True on the layers that must learn, and compile again.'
    )
    assert "frozen" in {f.symptom for f in diagnose(model, *data()).findings}


def test_layers_frozen_as_they_were_drawn_are_named_and_those_that_were_trained_are_not():
    model = network()
    for layer in model.layers[:-1]:
        layer.trainable = False
    assert training_of(model).frozen == ("h0", "h1", "h2")
    trained = network()
    trained.fit(*data(), verbose=0)
    for layer in trained.layers[:-1]:
        layer.trainable = False
    assert training_of(trained) == Training(dropping=(("drop", 0.0),), step=training_of(trained).step)
    # One layer of several may be frozen on purpose.
    one = network()
    one.get_layer("h1").trainable = False
    assert training_of(one).frozen == ()


def test_moving_statistics_tell_of_a_training_too():
    convolutions = [keras.layers.Conv2D(4, 3, use_bias=False, name=name) for name in ("first", "second")]
    normalization = keras.layers.BatchNormalization(name="bn")
    model = keras.Sequential([keras.Input((8, 8, 1)), *convolutions, normalization, keras.layers.Flatten(), keras.layers.Dense(1)])
    for layer in (*convolutions, normalization):
        layer.trainable = False
    assert training_of(model).frozen == ("first", "second")
    normalization.moving_mean.assign(np.full(4, 0.3))
    assert training_of(model).frozen == ()


def test_an_optimizer_is_read_through_what_wraps_it():
    inner = keras_ext.optimizers.Adam(0.25, epsilon=2.0, weight_decay=0.5)
    assert step_of(keras_ext.optimizers.GradientClipping(inner)) == Step(0.25, 2.0, 0.5)
    clipped = step_of(keras.optimizers.SGD(0.5, clipvalue=0.125))
    assert (clipped.rate, clipped.clipping, clipped.threshold) == (0.5, "clipvalue", 0.125)
    assert math.isnan(clipped.epsilon)
    assert math.isnan(step_of(None).rate)
    for overwrites, average in ((5, 0.75), (None, math.nan)):
        averaged = step_of(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=overwrites))
        assert averaged.average == pytest.approx(average, nan_ok=True)
    assert math.isnan(clipped.average)


@pytest.mark.parametrize(
    ("training", "symptoms"),
    [
        (Training(), []),
        (Training(can_train=False, frozen=("a",)), ["frozen"]),
        (Training(frozen=("a", "b")), ["frozen"]),
        (Training(dropping=(("a", 0.89), ("b", 0.9), ("c", 1.0))), ["heavy_dropout", "heavy_dropout"]),
        (Training(step=Step(rate=0.1, weight_decay=0.11)), ["strong_decay"]),
        (Training(step=Step(rate=0.1, weight_decay=0.09)), []),
    ],
)
def test_each_setting_alone(training, symptoms):
    found = list(setting_states(training, Limits()))
    assert [s.symptom for s in found] == symptoms
    assert [s.fatal for s in found] == [not training.can_train] * len(found)


@pytest.mark.parametrize(
    ("layer", "rates"),
    [
        (lambda: keras.layers.LSTM(4, recurrent_dropout=0.95), [0.95]),
        (lambda: keras.layers.Bidirectional(keras.layers.GRU(4, dropout=0.9)), [0.9, 0.9]),
        (lambda: keras.layers.SimpleRNN(4), []),
        (lambda: keras.layers.SpatialDropout1D(0.9), [0.9]),
        (lambda: keras_ext.layers.Dropout(0.9), [0.9]),
    ],
)
def test_what_layers_drop_is_read_as_it_was_given(layer, rates):
    model = keras.Sequential([keras.Input((5, 3)), layer(), keras.layers.Flatten(), keras.layers.Dense(1)])
    training = training_of(model)
    assert [rate for _, rate in training.dropping] == rates
    assert [s.symptom for s in setting_states(training, Limits())] == ["heavy_dropout"] * len(rates)


KERNEL = Weight("h1", "h1/kernel", True, 0.1, 5.0, 1.0, 0.0, True, update=5e-5)


def course(update=5e-5, gradient=0.1, losses=(1.0,) * 4):
    kernel = Weight("h1", "h1/kernel", True, gradient, 5.0, 1.0, 0.0, True, update=update)
    return [Snapshot(100 * i, i, loss, 0.5, (), (kernel,)) for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("snapshots", "training", "advice"),
    [
        # 1e-5 of its length in 100 steps, of 1000.
        (course(), Training(planned=1000, step=Step(rate=1e-6)), "Raise learning_rate (1e-06): callbacks.LearningRateFinder"),
        (course(), Training(planned=1000, step=Step(rate=0.1, epsilon=10.0)), "The optimizer's epsilon (10) is larger than its gradients"),
        (course(), Training(planned=1000, step=Step(rate=0.1, clipping="clipvalue", threshold=1e-6)), "clipvalue=1e-06 cuts its gradients"),
        (course(), Training(planned=1000, step=Step(average=0.9999)), "set ema_momentum (0.9999) to .99"),
        (course(update=0.03), Training(planned=1000), None),  # 6 % in the whole training
        (course(gradient=1e-4), Training(planned=1000), None),  # without a gradient no rate helps
        (course(gradient=math.nan), Training(planned=1000), None),
        (course(losses=(1.0, 0.9, 0.8, 0.7)), Training(planned=1000), None),  # far enough
    ],
)
def test_a_step_that_leads_nowhere_names_the_argument(snapshots, training, advice):
    found = list(step_states(snapshots, Limits(), training, math.nan, 2))
    assert [s.symptom for s in found] == (["small_step"] if advice else [])
    assert all(s.quiet and advice in s.advice and s.value == pytest.approx(1e-4) for s in found)


@pytest.mark.parametrize(
    ("optimizer", "symptom", "argument"),
    [
        (lambda: keras.optimizers.SGD(1e-6), "small_step", "learning_rate (1e-06)"),
        (
            lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(1e-6, 9000)),
            "small_step",
            "Raise the rates of CosineDecay (",
        ),
        (lambda: keras.optimizers.Adam(1e-3, epsilon=1e5), "small_step", "epsilon (1e+05)"),
        (lambda: keras.optimizers.SGD(1e-2, clipvalue=1e-7), "small_step", "clipvalue=1e-07"),
        (lambda: keras.optimizers.AdamW(2e-3, weight_decay=200.0), "strong_decay", "weight_decay"),
    ],
)
def test_a_training_whose_steps_lead_nowhere_is_named_with_the_argument(optimizer, symptom, argument):
    monitor, _ = fit(network(optimizer()))
    assert symptom in critical(monitor)
    (found,) = [f for f in monitor.findings if (f.symptom, f.severity) == (symptom, "critical")]
    assert argument in found.advice


def test_dropout_of_almost_all_is_named():
    monitor, _ = fit(network(dropout=0.99))
    assert ("heavy_dropout", "drop") in {(f.symptom, f.layer) for f in monitor.findings}


def test_their_healthy_twin_gets_no_finding():
    monitor, loss = fit(network(keras.optimizers.AdamW(2e-3, weight_decay=4e-3), dropout=0.2))
    assert loss[-1] < 0.7 * loss[0]
    assert monitor.findings == []


def test_penalties_that_outweigh_the_loss_are_the_cause_of_what_else_is_seen():
    def penalized(factor):
        regularizer = keras.regularizers.L2(factor)
        layers = [keras.layers.Dense(32, "relu", kernel_regularizer=regularizer, name=f"h{i}") for i in range(2)]
        model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1, name="out")])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    model = penalized(3.0)
    expected = 3.0 * sum(float(np.sum(np.square(keras.ops.convert_to_numpy(layer.kernel)))) for layer in model.layers[:2])
    assert training_of(model).penalty == pytest.approx(expected, rel=1e-6)
    monitor, _ = fit(model)
    assert critical(monitor) == {"strong_decay"}
    (found,) = [f for f in monitor.findings if f.severity == "critical"]
    assert found.value == pytest.approx(expected / np.var(data()[1]), rel=0.05)  # of the probe's targets
    assert "kernel_regularizer" in found.advice
    monitor, losses = fit(penalized(1e-4), epochs=20)
    assert critical(monitor) == set()
    assert losses[-1] < 0.3


def test_a_step_is_measured_by_kernels_and_not_by_what_starts_at_zero():
    def weight(path, update, norm=1.0):
        return Weight("a", path, True, 0.1, norm, 0.1, 0.0, True, update=update)

    first = Snapshot(0, 0, 1.0, 0.5, (), (weight("a/kernel", math.nan), weight("a/query/bias", math.nan), weight("a/lora", math.nan, 0.0)))
    for moving in ("a/query/bias", "a/lora"):
        weights = (weight("a/kernel", 1e-4), *(weight(path, 0.3 if path == moving else 0.0) for path in ("a/query/bias", "a/lora")))
        after = [Snapshot(50 * i, i, 1.0, 0.5, (), weights) for i in (1, 2, 3)]
        (found,) = step_states([first, *after], Limits(), Training(step=Step(rate=1e-5), planned=200.0), 1.0, 2)
        assert (found.symptom, found.value) == ("small_step", pytest.approx(1e-4 / 50 * 200))
    moves = Snapshot(150, 3, 1.0, 0.5, (), (weight("a/kernel", 0.3),))
    assert list(step_states([first, *after[:2], moves], Limits(), Training(planned=200.0), 1.0, 2)) == []


def test_a_loss_that_will_not_reach_that_of_a_constant_is_one_of_too_small_steps():
    falls = [Snapshot(10 * i, i, 1.3 - 0.02 * i, 0.5, (), ()) for i in range(10)]

    def found(baseline, error=0.0, course=falls):
        return [s.value for s in step_states(course, Limits(), Training(planned=120.0), baseline, 2, error)]

    # It will be 1.06.
    assert found(1.059) == [pytest.approx(1.06)]
    assert found(1.061) == []
    assert found(1.02, error=0.03) == [pytest.approx(1.06)]
    assert found(1.02, error=0.05) == []
    # A constant pays no penalties.
    assert found(1.02, course=[replace(s, penalty=0.03) for s in falls]) == [pytest.approx(1.03)]
    assert found(1.02, course=[replace(s, penalty=0.05) for s in falls]) == []


def test_samples_that_are_all_the_same_are_named_before_what_follows_from_them():
    model = network()
    x, y = data()
    monitor = SaturationMonitor(np.zeros_like(x), y, on_critical=None)
    model.fit(np.zeros_like(x), y, epochs=8, batch_size=16, verbose=0, callbacks=[monitor])
    (found,) = [f for f in monitor.findings if f.severity == "critical"]
    assert found.symptom == "constant_output"
    assert found.advice.startswith("All samples of the monitor have the same inputs.")
    # One column that differs is enough.
    x = np.zeros_like(x)
    x[:, 3] = data()[0][:, 3]
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=1, batch_size=16, verbose=0, callbacks=[monitor])
    assert not any("same inputs" in f.advice for f in monitor.findings)


def test_gradients_that_are_accumulated_for_most_of_the_training_are_named():
    def accumulated(batches):
        return network(keras.optimizers.Adam(0.01, gradient_accumulation_steps=batches))

    monitor, _ = fit(accumulated(100))  # 256 steps
    (found,) = [f for f in monitor.findings if f.severity == "critical"]
    assert found.symptom == "small_step"
    assert found.advice.startswith("gradient_accumulation_steps=100 leaves 2 updates in the planned steps.")
    assert critical(fit(accumulated(2), epochs=16)[0]) == set()


@pytest.mark.parametrize(("rate", "is_critical"), [(0.8, True), (0.2, False)])
def test_dropout_of_the_predictions_is_named_and_dropout_before_the_last_kernel_is_not(rate, is_critical):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dropout(rate, name="hidden")(keras.layers.Dense(16, "relu")(inputs))
    out = keras.layers.Activation("linear")(keras.layers.Dropout(rate, name="last")(keras.layers.Dense(1)(hidden)))
    model = keras.Model(inputs, out)
    model.compile("adam", "mse")
    assert training_of(model).dropping_outputs == ("last",)
    monitor, _ = fit(model)
    found = [f for f in monitor.findings if f.symptom == "heavy_dropout"]
    assert {(f.layer, f.severity) for f in found} == {("last", "warning"), *([("last", "critical")] if is_critical else [])}
    assert found[0].advice.startswith(f"It drops {rate} of the predictions themselves")


def test_of_a_model_without_a_graph_and_of_dropout_that_is_off_nothing_is_said_of_the_outputs():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dropout(0.5)

        def call(self, x):
            return self.last(x)

    assert training_of(Own()).dropping_outputs == ()
    assert training_of(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1), keras.layers.Dropout(0.0)])).dropping_outputs == ()


def held(**arguments):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, "relu", name="h", **arguments), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.002), "mse")
    return model


@pytest.mark.parametrize(
    ("arguments", "by"),
    [
        ({"kernel_constraint": keras.constraints.MaxNorm(0.01)}, "MaxNorm"),
        ({"kernel_regularizer": keras.regularizers.L2(5.0)}, "L2"),
        ({"kernel_constraint": keras.constraints.MaxNorm(2.0)}, None),
        ({"kernel_regularizer": keras.regularizers.L2(1e-5)}, None),
    ],
)
def test_a_kernel_that_is_pressed_to_nothing_is_named_with_what_presses_it(arguments, by):
    monitor, _ = fit(held(**arguments), epochs=12)
    found = [f for f in monitor.findings if f.symptom == "strong_decay" and f.layer == "h"]
    assert bool(found) == (by is not None)
    assert all(f"pressed by its {by}" in f.advice for f in found)


def kernel(norm, path):
    return Weight("h", path, True, 1.0, norm, 1.0, 0.0, True)


@pytest.mark.parametrize(
    ("kind", "norms", "expected"),
    [
        ("regularizer", (0.05, 0.05, 1.0), [True, True]),  # most kernels
        ("regularizer", (0.05, 1.0, 1.0), [False]),
        ("constraint", (0.05, 0.05, 0.05), [False] * 3),
        ("regularizer", (0.11, 0.2, 1.0), []),
    ],
)
def test_where_a_regularizer_presses_most_kernels_no_loss_excuses_it(kind, norms, expected):
    courses = ((0, (1.0, 1.0, 1.0)), (9, norms))
    first, last = (Snapshot(step, 0, 1.0, 1.0, (), tuple(kernel(n, str(i)) for i, n in enumerate(each))) for step, each in courses)
    training = Training(pressing=tuple((str(i), kind, "Any") for i in range(3)))
    assert [s.ignores_loss for s in pressed_states([first, last], Limits(), training)] == expected


@pytest.mark.parametrize(
    ("norms", "loss", "expected"),
    [
        ((0.05, 0.05, 1.0), 0.6, [True, True]),
        ((0.05, 0.05, 1.0), 0.4, [False, False]),  # it has learned
        ((0.05, 1.0, 1.0), 0.6, [False]),  # less than half of them
    ],
)
def test_where_most_of_the_held_kernels_are_pressed_and_nothing_is_learned_no_falling_loss_excuses_it(norms, loss, expected):
    courses = ((0, (1.0, 1.0, 1.0), 1.0), (9, norms, loss))
    first, last = (Snapshot(step, 0, at, 1.0, (), tuple(kernel(n, str(i)) for i, n in enumerate(each))) for step, each, at in courses)
    training = Training(pressing=tuple((str(i), "constraint", "MaxNorm") for i in range(3)))
    assert [s.ignores_loss for s in pressed_states([first, last], Limits(), training, 1.0)] == expected


def test_penalties_on_outputs_that_outweigh_the_loss_are_critical():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8)).astype("float32")
    for factor, is_found in ((1.0, True), (1e-4, False)):
        keras.utils.set_random_seed(0)
        code = keras.layers.Dense(6, activity_regularizer=keras.regularizers.L1(factor), kernel_regularizer=keras.regularizers.L2(1e-4))
        model = keras.Sequential([keras.Input((8,)), code, keras.layers.Dense(8)])
        model.compile("adam", "mse")
        with keras.StatelessScope(collect_losses=True) as scope:
            code(keras.ops.convert_to_tensor(x))
        # Keras divides by the samples or not, by version; penalties on weights are not among these.
        (expected,) = scope.losses
        assert penalty_on_outputs(model, x) == pytest.approx(float(keras.ops.convert_to_numpy(expected)), rel=1e-4)
        monitor = SaturationMonitor(x, x, on_critical=None)
        model.fit(x, x, epochs=20, verbose=0, callbacks=[monitor])
        found = [f for f in monitor.findings if f.symptom == "strong_decay"]
        assert any(f.severity == "critical" and "activity_regularizer" in f.advice for f in found) == is_found
        assert bool(found) == is_found


@pytest.mark.parametrize(
    ("layers", "is_found"),
    [
        ([keras.layers.Dense(4), keras.layers.Dense(4), keras.layers.Dense(1, "sigmoid")], True),
        ([keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)], True),
        ([keras.layers.Dense(1, "sigmoid")], False),
        ([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)], False),
        ([keras.layers.Dense(4), keras.layers.ReLU(), keras.layers.Dense(1)], False),
    ],
)
def test_a_network_without_activations_is_known(layers, is_found):
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", "mse")
    assert training_of(model).is_linear == is_found


@pytest.mark.parametrize(("momentum", "planned", "is_found"), [(0.99999, 100, True), (0.99, 100, False), (0.99, 60, True)])
def test_an_average_that_hardly_leaves_the_first_weights_is_found(momentum, planned, is_found):
    step = step_of(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=momentum))
    assert (step.last_average, math.isnan(step.average)) == (momentum, True)
    found = list(setting_states(Training(planned=float(planned), step=step), Limits()))
    assert ["Set ema_momentum" in s.advice and s.ignores_loss for s in found] == ([True] if is_found else [])
    assert list(setting_states(Training(planned=100.0, step=step_of(keras.optimizers.Adam(0.01, ema_momentum=0.99999))), Limits())) == []


def test_weights_that_the_average_of_a_short_fit_replaces_are_critical():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9999), "binary_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=20, verbose=0, callbacks=[monitor])
    assert monitor.snapshots[-1].loss < 0.2 < model.evaluate(x, y, verbose=0)
    assert [f.symptom for f in monitor.findings if f.severity == "critical"] == ["small_step"]
