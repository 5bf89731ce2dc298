"""The monitor in real fits: unhealthy networks are named, sound ones left alone, and the training is the same with it."""

import copy
import io
import json
import pickle
import warnings

import keras
import keras_tuner
import numpy as np
import pytest
from keras import ops
from rich.console import Console
from sklearn.datasets import load_digits

import keras_ext
from keras_ext.callbacks import Limits, SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.report.json_report import from_json


def data(n=512):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 10)).astype("float32")
    return x, (x[:, :1] + x[:, 1:2] > 0).astype("float32")


def network(activation="relu", depth=2, width=16, initializer="glorot_uniform", bias="zeros", rate=1e-2, loss="binary_crossentropy"):
    model = keras.Sequential([keras.Input((10,))])
    for i in range(depth):
        model.add(keras.layers.Dense(width, activation, kernel_initializer=initializer, bias_initializer=bias, name=f"h{i}"))
        model.add(keras_ext.layers.Dropout(0.1))
    model.add(keras.layers.Dense(1, "sigmoid", name="out"))
    model.compile(keras_ext.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def fit(model, *, epochs=4, **arguments):
    x, y = data()
    monitor = SaturationMonitor(x, y, **{"on_critical": None, **arguments})
    history = model.fit(x, y, epochs=epochs, verbose=0, callbacks=[monitor])
    return monitor, history.history


@pytest.mark.parametrize("activation", ["relu", "tanh", "selu"])
def test_a_sound_network_gets_no_finding(activation):
    monitor, history = fit(network(activation))
    assert monitor.findings == []
    assert history["accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "symptom"),
    [
        ({"activation": "sigmoid", "depth": 12}, "vanishing_gradient"),
        ({"activation": "relu", "bias": keras.initializers.Constant(-30.0)}, "dead_relu"),
        ({"activation": "relu", "initializer": "zeros"}, "poor_initialization"),
        ({"activation": "relu", "rate": 1e30, "loss": "mse"}, "non_finite"),  # PyTorch's cross-entropy raises at NaN
        ({"activation": "tanh", "initializer": keras.initializers.RandomNormal(stddev=30.0, seed=1), "rate": 1e-6}, "saturated"),
    ],
)
def test_a_unhealthy_network_is_named_critical(arguments, symptom):
    monitor, history = fit(network(**arguments))
    assert symptom in {f.symptom for f in monitor.findings if f.severity == "critical"}
    assert history["critical"][-1] == sum(f.severity == "critical" for f in monitor.findings)


def test_the_layer_that_is_unhealthy_is_the_layer_that_is_named():
    model = network("tanh", depth=3)
    model.get_layer("h1").kernel.assign(model.get_layer("h1").kernel * 100)
    monitor, _ = fit(model, epochs=1)
    assert {f.layer for f in monitor.findings if f.symptom == "saturated"} == {"h1"}


def test_training_is_the_same_with_and_without_the_monitor():
    x, y = data()
    weights, histories = [], []
    for callbacks in ([], [SaturationMonitor(x, y)]):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(16), keras_ext.layers.BatchNormalization()])
        model.add(keras.layers.Activation("tanh"))
        model.add(keras.layers.Dropout(0.5))
        model.add(keras.layers.Dense(1, "sigmoid"))
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        histories.append(model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks, validation_split=0.2).history)
        weights.append([v.numpy() for v in (*model.variables, *model.optimizer.variables)])
    for without, with_it in zip(*weights, strict=True):
        np.testing.assert_array_equal(without, with_it)
    for key, values in histories[0].items():
        assert values == histories[1][key]


def test_the_log_keys_are_there_at_every_epoch():
    _, history = fit(network(), epochs=3)
    keys = {"saturation", "saturation_worst", "dead", "dead_worst", "gradient_ratio", "gradient_ratio_worst", "critical"}
    assert keys <= set(history)
    assert all(len(history[key]) == 3 for key in keys)


def test_early_stopping_sees_the_keys():
    x, y = data()
    monitor = SaturationMonitor(x, y, on_critical=None)
    stop = keras.callbacks.EarlyStopping(monitor="saturation", mode="min", patience=0, start_from_epoch=1)
    history = network().fit(x, y, epochs=9, verbose=0, callbacks=[monitor, stop])
    assert len(history.epoch) == 3  # 0 saturation cannot fall


@pytest.mark.parametrize("on_critical", ["warn", "stop", "raise", None])
def test_what_happens_at_a_critical_finding(on_critical):
    x, y = data()
    monitor = SaturationMonitor(x, y, on_critical=on_critical)
    model = network(bias=keras.initializers.Constant(-30.0))
    if on_critical == "raise":
        with pytest.raises(RuntimeError, match=r"poor initialization in layer .h0.*bias starts at up to 30"):
            model.fit(x, y, epochs=9, verbose=0, callbacks=[monitor])
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(x, y, epochs=9, verbose=0, callbacks=[monitor])
    reported = [str(w.message) for w in caught if "poor initialization" in str(w.message)]
    assert [text.split(":")[0] for text in reported] == {"warn": ["critical"], "stop": ["training stops"], None: []}[on_critical]
    # After half of the 144 steps that are planned, which are fewer than 100.
    assert len(history.epoch) == (5 if on_critical == "stop" else 9)


def test_who_hears_of_each_finding_is_not_warned_of_the_stop():
    x, y = data()
    heard = []
    monitor = SaturationMonitor(x, y, on_critical="stop", on_finding=heard.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(bias=keras.initializers.Constant(-30.0)).fit(x, y, epochs=9, verbose=0, callbacks=[monitor])
    assert "critical" in {f.severity for f in heard}


def test_a_copy_hears_through_the_function_it_was_given():
    x, y = data()
    heard = []
    original = SaturationMonitor(x, y, on_critical=None, on_finding=lambda finding: heard.append(finding))
    network(bias=keras.initializers.Constant(-30.0)).fit(x, y, epochs=2, verbose=0, callbacks=[copy.deepcopy(original)])
    assert original.findings == []
    assert "dead_relu" in {f.symptom for f in heard}


def test_it_pickles_and_is_used_again():
    x, y = data()
    monitor = pickle.loads(pickle.dumps(SaturationMonitor(x, y, on_critical=None)))
    network(bias=keras.initializers.Constant(-30.0)).fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    assert monitor.findings
    network().fit(x, y, epochs=2, verbose=0, callbacks=[monitor])
    assert monitor.findings == []
    assert [(snapshot.step, snapshot.epoch) for snapshot in monitor.snapshots if snapshot.is_regular] == [(0, 0), (16, 1), (32, 2)]
    copy.deepcopy(monitor.findings)


def test_the_probe_is_a_seeded_sample():
    x = np.arange(1000.0)[:, None]
    first, again, other = (SaturationMonitor(x, x, seed=s)._data[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == 256
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"x": np.ones((3, 2)), "y": np.ones(4)},
            ValueError,
            "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [3, 4].",
        ),
        (
            {"x": iter([1])},
            TypeError,
            "`x` must be arrays, or a dataset that can be read again, got 'list_iterator'. A generator gives its samples once, and `fit` "
            "needs them. Give a few hundred samples as arrays, such as `x[:512], y[:512]`.",
        ),
        ({"x": np.ones((3, 2)), "probe_size": 0}, ValueError, "`probe_size` must be a whole number of at least 1, got 0."),
        (
            {"x": np.ones((3, 2)), "on_critical": "halt"},
            ValueError,
            "`on_critical` must be one of 'warn', 'stop', 'raise', 'repair', None, got 'halt'.",
        ),
        (
            {"x": np.ones((3, 2)), "limits": {"dead": 0.5}},
            TypeError,
            "`limits` must be a keras_ext.callbacks.Limits or None, got {'dead': 0.5}.",
        ),
    ],
)
def test_bad_arguments_are_reported(arguments, error, message):
    with pytest.raises(error) as raised:
        SaturationMonitor(**arguments)
    assert str(raised.value) == message


def test_limits_change_what_is_found():
    strict, _ = fit(network(), limits=Limits(exploding_weight=0.1), epochs=1)
    lenient, _ = fit(network(), epochs=1)
    assert {f.symptom for f in strict.findings} == {"exploding_weight"}
    assert lenient.findings == []


@pytest.mark.parametrize("kind", ["sequential", "subclassed"])
def test_a_model_without_weights_before_its_first_step_is_watched(kind):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = keras.layers.Dense(8, "sigmoid"), keras.layers.Dense(1, "sigmoid")

        def call(self, x):
            return self.out(self.hidden(x))

    layers = [keras.layers.Dense(8, "sigmoid"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers) if kind == "sequential" else Subclassed()
    model.compile("sgd", "binary_crossentropy")
    monitor, history = fit(model, epochs=2)
    # Before the first step Keras builds it on JAX and PyTorch alone.
    first = [(1, True)] if keras.backend.backend() == "tensorflow" else [(0, True), (1, False)]
    assert [(snapshot.step, snapshot.is_regular) for snapshot in monitor.snapshots] == [*first, (10, False), (16, True), (32, True)]
    assert {len(snapshot.weights) for snapshot in monitor.snapshots} == {4}
    assert len(history["gradient_ratio"]) == 2


def test_half_precision_whose_scaled_gradients_overflow_is_no_finding():
    keras.config.set_dtype_policy("mixed_float16")
    x, _ = data()
    y = 300 + 50 * x[:, :1]
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1, dtype="float32")])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    monitor = SaturationMonitor(x, y, on_critical=None)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[monitor]).history
    assert history["loss"][-1] < history["loss"][0]
    assert [f for f in monitor.findings if f.symptom == "non_finite"] == []


def test_dropout_inside_recurrent_layers_is_off_and_the_random_state_stays():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6, 4)).astype("float32"), rng.integers(0, 2, (64, 1))
    weights = []
    for watched in (False, True):
        keras.utils.set_random_seed(3)
        lstm = keras.layers.LSTM(5, dropout=0.3, recurrent_dropout=0.2)
        model = keras.Sequential([keras.Input((6, 4)), lstm, keras.layers.Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy")
        monitor = SaturationMonitor(x, y)
        model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor] if watched else [])
        weights.append(model.get_weights())
        assert (lstm.dropout, lstm.cell.dropout, lstm.cell.recurrent_dropout) == (0.3, 0.3, 0.2)
    for without, with_it in zip(*weights, strict=True):
        np.testing.assert_array_equal(without, with_it)


def test_a_model_that_the_probe_cannot_run_is_trained_all_the_same():
    x, y = data()
    model = network()
    reported = (
        r"SaturationMonitor cannot observe this model; training goes on without it\. .*`x` float32 \(\d+, 3\).* it takes \(None, 10\)"
    )
    with pytest.warns(UserWarning, match=reported):
        history = model.fit(x, y, epochs=2, verbose=0, callbacks=[SaturationMonitor(x[:, :3], y)])
    assert len(history.epoch) == 2
    with pytest.warns(UserWarning, match="without it. `model` cannot be observed without `y`: it is compiled with a loss"):
        model.fit(x, y, verbose=0, callbacks=[SaturationMonitor(x)])


def test_steps_count_batches_also_where_several_run_at_once():
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch has no steps_per_execution")
    x, y = data(256)
    model = network()
    model.compile("sgd", "binary_crossentropy", steps_per_execution=4)
    monitor = SaturationMonitor(x, y)
    model.fit(x, y, epochs=2, batch_size=32, verbose=0, callbacks=[monitor])
    assert [(snapshot.step, snapshot.is_regular) for snapshot in monitor.snapshots] == [(0, True), (4, False), (8, True), (16, True)]


def test_a_call_of_the_users_own_on_a_layer_stays():
    x, y = data()
    model = network()
    own = model.get_layer("h0").call
    model.get_layer("h0").call = own
    model.fit(x, y, epochs=1, verbose=0, callbacks=[SaturationMonitor(x, y)])
    assert model.get_layer("h0").call is own


def test_numbers_of_a_network_that_is_not_finite_are_the_worst():
    _, history = fit(network(rate=1e30, loss="mse"), epochs=2)
    assert (history["saturation"][-1], history["dead"][-1], history["gradient_ratio"][-1]) == (1.0, 1.0, 0.0)


def test_keys_of_single_layers():
    _, history = fit(network("sigmoid", bias=keras.initializers.Constant(-30.0)), epochs=2, per_layer=True)
    assert {key for key in history if "/" in key} == {"saturation/h0", "saturation/h1"}
    assert history["saturation/h0"] == [1.0, 1.0]


def test_the_update_is_the_way_since_the_last_snapshot():
    model = network()
    start = [w.copy() for w in model.get_weights()]
    monitor, _ = fit(model, epochs=1, every=16)
    for weight, before, after in zip(monitor.snapshots[-1].weights, start, model.get_weights(), strict=True):
        assert weight.update == pytest.approx(np.linalg.norm(after - before), rel=1e-4)
        assert weight.update > 0


def test_table_picture_file_and_report_are_written(tmp_path):
    monitor, _ = fit(network(bias=keras.initializers.Constant(-30.0)), report=tmp_path / "a" / "report.html")
    page = (tmp_path / "a" / "report.html").read_text()
    assert "dead relu" in page
    assert "h0" in page
    assert "h0" in "".join(str(segment.text) for segment in Console(width=120).render(monitor.table()))
    monitor.plot(tmp_path / "b" / "snapshots.png")
    assert (tmp_path / "b" / "snapshots.png").stat().st_size > 10_000
    monitor.to_json(tmp_path / "snapshots.json")
    snapshots, findings = from_json(tmp_path / "snapshots.json")
    assert findings == monitor.findings
    assert [snapshot.loss for snapshot in snapshots] == [snapshot.loss for snapshot in monitor.snapshots]


def test_a_report_that_cannot_be_written_costs_no_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not write its report"):
        _, history = fit(network(), epochs=1, report=tmp_path / "file" / "report.html")
    assert len(history["loss"]) == 1


def test_a_folder_is_no_report_and_a_file_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r'`report` must be a file, got .*Such as "report.html" in it'):
        SaturationMonitor(*data(), report=tmp_path)
    with pytest.raises(ValueError, match=r"`log_dir` must be a folder, got .*That is a file\."):
        SaturationMonitor(*data(), log_dir=tmp_path / "file")


def test_scalars_are_written_while_it_trains(tmp_path):
    pytest.importorskip("tensorboard")
    monitor, history = fit(network(), epochs=1, log_dir=tmp_path)
    copy.deepcopy(monitor)
    scalars, run = sorted((tmp_path / "run_000001").iterdir())
    assert scalars.stat().st_size > 100
    assert run.name == "run.json"
    assert from_json(run) == (monitor.snapshots, monitor.findings)
    assert history["run"] == [1]


def test_every_fit_has_a_folder_of_its_own(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "run_000007").mkdir()
    (tmp_path / "run_notes").write_text("mine")
    model = network()
    assert [fit(model, epochs=1, log_dir=tmp_path)[1]["run"] for _ in range(2)] == [[8], [9]]
    assert "run" not in fit(model, epochs=1)[1]


def test_a_wrong_layer_is_reported_before_the_first_step():
    model = network()
    with pytest.raises(ValueError, match="`layers` must name layers of the model, got 'h9'"):
        fit(model, layers=["h9"])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0


@pytest.mark.parametrize("deviation", [0.01, pytest.param(1.0, marks=pytest.mark.slow)])
def test_twenty_normalized_tanh_layers_of_a_bad_scale_are_healthy(deviation):
    model = keras.Sequential([keras.Input((64,))])
    for _ in range(20):
        model.add(keras.layers.Dense(64, kernel_initializer=keras.initializers.RandomNormal(stddev=deviation)))
        model.add(keras.layers.BatchNormalization())  # whose moving statistics, 0 and 1, would saturate every layer or starve it
        model.add(keras.layers.Activation("tanh"))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    x, y = load_digits(return_X_y=True)
    monitor = SaturationMonitor(x / 16, y)
    model.fit(x[:288] / 16, y[:288], batch_size=32, epochs=1, verbose=0, callbacks=[monitor])
    assert [snapshot.step for snapshot in monitor.snapshots] == [0, 1, 9]
    assert monitor.findings == []


def test_a_monitor_without_samples_or_that_is_a_class_says_what_to_write():
    with pytest.raises(TypeError, match=r"`x` must be samples as `fit` takes them, got None\. Write SaturationMonitor\(x, y\)"):
        SaturationMonitor()
    x, y = data(32)
    with pytest.raises(TypeError, match=r"got 'the class SaturationMonitor'\. Write callbacks=\[SaturationMonitor\(x, y\)\]"):
        network().fit(x, y, verbose=0, callbacks=[SaturationMonitor])
    monitor = SaturationMonitor((x, y))
    with pytest.warns(UserWarning, match=r"`x` is a tuple of 2 arrays: if that is \(x, y\), write it as two arguments"):
        network().fit(x, y, verbose=0, callbacks=[monitor])


class Listener:
    """Keeps what it hears."""

    def __init__(self):
        self.heard = []

    def hear(self, finding):
        self.heard.append(finding.symptom)


def test_a_method_that_listens_hears_the_copies_that_keras_tuner_makes(tmp_path):
    listener, (x, y) = Listener(), data()
    monitor = SaturationMonitor(x, y, on_critical=None, on_finding=listener.hear)
    tuner = keras_tuner.RandomSearch(lambda hp: network(initializer="zeros"), "loss", max_trials=1, directory=tmp_path)
    tuner.search(x, y, epochs=1, verbose=0, callbacks=[monitor])
    assert "poor_initialization" in listener.heard
    assert monitor.findings == []


def test_the_slope_below_which_a_unit_is_saturated_is_the_users_choice():
    x, y = data()
    model = network("sigmoid", initializer=keras.initializers.RandomNormal(stddev=1.0, seed=1))
    z = np.abs(x @ ops.convert_to_numpy(model.get_layer("h0").kernel))
    for slope, rounded in ((0.05, 4.4), (0.18, 3.0)):
        edge = 2 * np.arccosh(1 / np.sqrt(slope))
        assert edge == pytest.approx(rounded, abs=0.05)
        activation = next(
            a for a in diagnose(model, x, y, limits=Limits(slope=slope), probe_size=512).snapshot.activations if a.layer == "h0"
        )
        assert activation.saturated == pytest.approx((z > edge).mean(), abs=2e-4)


def test_what_passes_while_the_network_learns_is_no_finding_of_the_run(tmp_path):
    x, y = data()
    model = network(initializer=keras.initializers.RandomNormal(stddev=0.01, seed=1), rate=0.02)
    monitor = SaturationMonitor(x, y, on_critical=None, report=tmp_path / "report.html")
    keras.utils.set_random_seed(1)
    history = model.fit(x, y, epochs=12, verbose=0, callbacks=[monitor])
    assert history.history["loss"][-1] < 0.7 * history.history["loss"][0]
    assert ("poor_initialization", "h0") in {(f.symptom, f.layer) for f in monitor.passed}
    assert monitor.findings == []
    assert "passed while the network learned: poor initialization (h0" in shown(monitor)
    assert "Passed while the network learned: poor initialization (h0" in (tmp_path / "report.html").read_text()
    monitor.to_json(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["header"]["passed"][0]["symptom"] == "poor_initialization"


def shown(monitor):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(monitor.table())
    return console.export_text()
