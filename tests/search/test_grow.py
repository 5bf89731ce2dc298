"""Networks that grow: what is taken over, what stays as it is, when it ends, and the command."""

import sys

import keras
import numpy as np
import processes
import pytest

import keras_ext
from keras_ext.callbacks import SaturationMonitor
from keras_ext.optimizers import Adam, GradientClipping
from keras_ext.search import grow
from keras_ext.search.weight_transfer import take_over

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (240, 3)).astype("float32")
Y = (X[:, :1] * X[:, 1:2]).astype("float32")
DATA = {"x": X[:200], "y": Y[:200], "validation_data": (X[200:], Y[200:]), "verbose": 0}


def build(layers, units=8, activation="relu", optimizer=None):
    model = keras.Sequential([keras.Input((3,))])
    for i in range(layers):
        model.add(keras.layers.Dense(units, activation, name=f"hidden_{i + 1}"))
    model.add(keras.layers.Dense(1, name="output"))
    model.compile(optimizer() if optimizer else Adam(0.01), "mse")
    return model


def same(a, b):
    return all(np.array_equal(p, q) for p, q in zip(a.get_weights(), b.get_weights(), strict=True))


# What is taken over.


def test_the_layers_in_common_are_taken_over_from_the_input_on():
    old, new = build(2), build(4)
    drawn = [layer.get_weights() for layer in new.layers]
    taken = take_over(old, new)
    assert [layer.name for layer in taken] == ["hidden_1", "hidden_2"]
    assert same(old.layers[0], new.layers[0])
    assert same(old.layers[1], new.layers[1])
    for i in (2, 3, 4):
        for a, b in zip(drawn[i], new.layers[i].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_output_as_wide_as_a_hidden_layer_is_none():
    def wide(layers):
        model = keras.Sequential([keras.Input((8,))])
        for i in range(layers):
            model.add(keras.layers.Dense(8, "relu", name=f"hidden_{i + 1}"))
        model.add(keras.layers.Dense(8, name="output"))
        return model

    old, new = wide(1), wide(2)
    assert [layer.name for layer in take_over(old, new)] == ["hidden_1"]
    assert not same(old.layers[1], new.layers[1])


def test_identity_computes_what_the_network_before_did():
    old, new, drawn = build(2), build(4), build(4)
    for model in (new, drawn):
        take_over(old, model, identity=model is new)
    np.testing.assert_array_equal(new.predict(X, verbose=0), old.predict(X, verbose=0))
    assert np.abs(drawn.predict(X, verbose=0) - old.predict(X, verbose=0)).max() > 1e-3


def test_where_a_layer_cannot_be_identity_nothing_behind_it_is_taken_over():
    def narrowing(layers):
        model = keras.Sequential([keras.Input((3,))])
        for i in range(layers):
            model.add(keras.layers.Dense(8 - i, "relu", name=f"hidden_{i + 1}"))
        model.add(keras.layers.Dense(1, name="output"))
        return model

    old, new = narrowing(1), narrowing(2)
    before = new.layers[-1].get_weights()
    take_over(old, new, identity=True)
    np.testing.assert_array_equal(new.layers[-1].get_weights()[0], before[0])


# The growth.


def stages_of(**kwargs):
    return grow(build, **{**DATA, "epochs": 3, "max_layers": 3, "patience": 9, **kwargs})


def test_it_returns_the_best_network_with_the_weights_of_its_best_epoch():
    grown = stages_of(epochs=4)
    assert [s.layers for s in grown.stages] == [1, 2, 3]
    best = min(s.score for s in grown.stages)
    assert grown.best.score == best
    # Float32 sums of 40 squares, in batches and in one.
    assert grown.model.evaluate(X[200:], Y[200:], verbose=0) == pytest.approx(best, rel=1e-5)
    assert len(grown.model.layers) == grown.best.layers + 1
    assert all(v.trainable for v in grown.model.weights)
    grown.model.fit(X, Y, epochs=1, verbose=0)


def test_a_stage_begins_with_the_best_epoch_of_the_one_before():
    seen = []

    class Keep(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append([w.copy() for w in self.model.layers[0].get_weights()])

    kept = []

    class Best(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append((len(seen), logs["val_loss"], [w.copy() for w in self.model.layers[0].get_weights()]))

    # A rate so high that the last epoch is hardly the best.
    grow(
        lambda n: build(n, optimizer=lambda: Adam(1.0)), **DATA, epochs=6, max_layers=2, patience=9,
        callbacks=[Sharing(Keep()), Sharing(Best())],
    )  # fmt: skip
    first = [(loss, w) for stage, loss, w in kept if stage == 1]
    best = min(first, key=lambda each: each[0])[1]
    np.testing.assert_array_equal(seen[1][0], best[0])
    assert not np.array_equal(first[-1][1][0], best[0])


class Sharing(keras.callbacks.Callback):
    """Hands on to one callback, of which there are no copies."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def __deepcopy__(self, memo):
        return Sharing(self.callback)

    def set_model(self, model):
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self.callback.on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.callback.on_epoch_end(epoch, logs)


@pytest.mark.parametrize("optimizer", [None, lambda: GradientClipping(Adam(0.01)), lambda: keras.optimizers.SGD(0.05, momentum=0.5)])
def test_frozen_layers_stay_and_the_others_move(optimizer):
    models = []

    def keep(n):
        models.append(build(n, optimizer=optimizer))
        models[-1].optimizer.build(models[-1].trainable_variables)
        return models[-1]

    grown = grow(keep, **DATA, earlier="freeze", epochs=2, max_layers=3, patience=9)
    one, two, three = models[:3]
    assert same(one.layers[0], two.layers[0])
    assert same(two.layers[0], three.layers[0])
    assert same(two.layers[1], three.layers[1])
    assert not same(one.layers[1], two.layers[2])
    counts = [8 * 3 + 8 + 8 + 1, 8 * 8 + 8 + 8 + 1, 8 * 8 + 8 + 8 + 1]
    assert [s.parameters for s in grown.stages] == counts
    assert all(v.trainable for v in grown.model.weights)


def test_kept_layers_are_trained_and_drawn_ones_are_not_taken_over():
    def firsts(earlier):
        models = []
        grow(lambda n: models.append(build(n)) or models[-1], **DATA, earlier=earlier, epochs=1, max_layers=2, patience=9)
        return models[:2]

    one, two = firsts("keep")
    assert not same(one.layers[0], two.layers[0])
    # With the seed of its depth a drawn network is what it would be alone.
    _, drawn = firsts("draw")
    keras.utils.set_random_seed(2)
    alone = build(2)
    alone.fit(X[:200], Y[:200], validation_data=(X[200:], Y[200:]), verbose=0)
    assert same(alone, drawn)


def test_it_ends_when_depth_no_longer_helps():
    scores = iter([0.5, 0.4, 0.45, 0.39, 0.6, 0.7, 0.8])

    class Scored(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["reported"] = next(scores)

    def eager(n):
        model = build(n)
        model.run_eagerly = True
        return model

    def layers(**kwargs):
        grown = grow(eager, **DATA, epochs=1, objective="reported", callbacks=[Scored()], max_layers=9, **kwargs)
        return [s.layers for s in grown.stages], grown.best.layers

    assert layers(patience=1, direction="min") == ([1, 2, 3], 2)
    scores = iter([0.5, 0.4, 0.45, 0.39, 0.6, 0.7, 0.8])
    assert layers(patience=2, direction="min") == ([1, 2, 3, 4, 5, 6], 4)
    scores = iter([0.5, 0.4, 0.45, 0.39, 0.6, 0.7, 0.8])
    assert layers(patience=1, direction="max") == ([1, 2], 1)
    scores = iter([0.5, 0.4, 0.45, 0.39, 0.6, 0.7, 0.8])
    assert layers(patience=1, direction="min", min_delta=0.2) == ([1, 2], 1)
    scores = iter([0.5, 0.4, float("nan"), 0.39, 0.6, 0.7, 0.8])
    assert layers(patience=1, direction="min", start=2) == ([2, 3, 4], 3)


def test_accuracy_is_to_be_large():
    y = (X[:, 0] > 0).astype("int32")

    def classifier(n):
        model = build(n)
        model.compile(Adam(0.01), "mse", metrics=["accuracy"])
        return model

    grown = grow(
        classifier, X[:200], y[:200], validation_data=(X[200:], y[200:]), objective="val_accuracy", epochs=1, max_layers=2, patience=9,
        verbose=0,
    )  # fmt: skip
    assert grown.best.score == max(s.score for s in grown.stages)


def test_refining_trains_all_weights_once_more():
    grown = stages_of(earlier="freeze", refine=True, max_layers=2)
    assert len(grown.stages) == 3
    last = grown.stages[-1]
    assert last.parameters == sum(int(np.prod(w.shape)) for w in build(last.layers).weights)
    assert grown.model.evaluate(X[200:], Y[200:], verbose=0) == pytest.approx(grown.best.score, rel=1e-5)


def test_refining_that_makes_it_worse_is_undone():
    scores, weights = iter([0.5, 0.4, 0.9]), []

    class Scored(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["reported"] = next(scores)
            weights.append(self.model.get_weights())

    grown = grow(
        build, **DATA, epochs=1, objective="reported", direction="min", callbacks=[Sharing(Scored())], max_layers=2, patience=9, refine=True
    )
    assert grown.best.score == 0.4
    for a, b in zip(grown.model.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_monitor_says_why_a_deep_one_does_not_learn_and_ends_it():
    def unhealthy(n):
        model = keras.Sequential([keras.Input((3,))])
        for i in range(n):
            init = keras.initializers.RandomNormal(stddev=1.0 if i < 1 else 1e-3)
            model.add(keras.layers.Dense(8, "sigmoid", kernel_initializer=init, name=f"hidden_{i + 1}"))
        model.add(keras.layers.Dense(1, name="output"))
        model.compile(Adam(0.01), "mse")
        return model

    reported = []
    monitor = SaturationMonitor(DATA["x"], DATA["y"], on_critical="stop", on_finding=reported.append)
    grown = grow(unhealthy, **DATA, start=11, max_layers=12, earlier="draw", epochs=6, patience=12, monitor=monitor)
    deep = grown.stages[-1]
    assert any(f.severity == "critical" for f in deep.findings)
    assert deep.epochs < 6
    assert [f for s in grown.stages for f in s.findings] == reported


def test_every_stage_is_reported_of_and_stands_in_the_table():
    reported = []
    grown = stages_of(on_stage=reported.append)
    assert tuple(reported) == grown.stages
    assert grown.table().row_count == 3


def test_convolutions_and_normalization_grow_too():
    """The names of normalization count on from network to network."""

    def image(n):
        model = keras.Sequential([keras.Input((8, 8, 1))])
        for _ in range(n):
            model.add(keras.layers.Conv2D(4, 3, padding="same"))
            model.add(keras_ext.layers.BatchNormalization())
            model.add(keras.layers.Activation("relu"))
        model.add(keras.layers.GlobalAveragePooling2D())
        model.add(keras.layers.Dense(1, name="output"))
        model.compile(Adam(0.01), "mse")
        return model

    old, new = image(2), image(3)
    old.fit(RNG.normal(size=(32, 8, 8, 1)), np.zeros((32, 1)), verbose=0)
    taken = take_over(old, new)
    assert len(taken) == 6
    for a, b in zip(old.layers[:6], new.layers[:6], strict=True):
        assert same(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 0}, "`start` must be a whole number of at least 1, got 0."),
        ({"start": 3, "max_layers": 2}, "`max_layers` must be at least start, 3, got 2."),
        ({"earlier": "lose"}, "`earlier` must be one of 'keep', 'freeze', 'draw', got 'lose'."),
        ({"new": "zero"}, "`new` must be one of 'drawn', 'identity', got 'zero'."),
        ({"patience": 0}, "`patience` must be a whole number of at least 1, got 0."),
        ({"min_delta": -1}, "`min_delta` must be a finite number of at least 0, got -1."),
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1, got 0."),
        ({"direction": "up"}, "`direction` must be one of None, 'min', 'max', got 'up'."),
        ({"objective": "val_los"}, "`objective` must be a name in the logs (loss, val_loss), got 'val_los'."),
        ({"refine": 1}, "`refine` must be True or False, got 1."),
    ],
)
def test_bad_arguments_are_reported(arguments, message):
    with pytest.raises(ValueError) as reported:
        stages_of(**{"epochs": 1, "max_layers": 1, **arguments})
    assert str(reported.value) == message


def test_what_is_no_network_is_reported():
    with pytest.raises(ValueError, match="`build` must be a function of a number of layers that returns a compiled network"):
        grow(lambda n: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), **DATA)
    with pytest.raises(TypeError, match="`monitor` must be a SaturationMonitor or None, got 3"):
        grow(build, **DATA, monitor=3)


def test_no_finite_score_is_reported():
    with pytest.raises(RuntimeError, match="No network had a finite val_loss"):
        grow(build, X, Y * np.nan, validation_data=(X, Y * np.nan), epochs=1, max_layers=1, verbose=0)


# The command.


def command(*arguments, cwd):
    return processes.run("-m", "keras_ext", "grow", *arguments, cwd=cwd)


@pytest.mark.backend_free
def test_the_command_grows_on_a_table_and_its_model_predicts(tmp_path):
    rows = ["a,b,kind,y"] + [f"{a:.3f},{b:.3f},{k},{a * b + (k == 'x'):.4f}" for a, b, k in zip(X[:, 0], X[:, 1], "xz" * 120, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    done = command("--data", "t.csv", "--epochs", "2", "--max-layers", "2", "--new", "identity", "--output", "out/g.keras", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 hidden layer: val_r2_score" in done.stdout
    assert "saved as out/g.keras" in done.stdout
    assert "samples of the test, which no network saw" in done.stdout
    reported = processes.run("-m", "keras_ext", "predict", "out/g.keras", "t.csv", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr[-2000:]
    assert len(reported.stdout.splitlines()) == 241


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--earlier", "lose"], "keras-ext: --earlier must be one of 'keep', 'freeze', 'draw', got 'lose'."),
        (["--activation", "step"], "keras-ext: --activation must be one of relu, leaky_relu, selu, tanh, sigmoid, got step."),
        (["--units", "0"], "keras-ext: --units must be a whole number of at least 1, got 0."),
        (["--output", "model.h5"], "keras-ext: --output must name a .keras file, got model.h5."),
        (["--max-layers", "0"], "keras-ext: --max-layers must be a whole number of at least 1, got 0."),
        (["--learning-rate", "-1"], "keras-ext: --learning-rate must be above 0, got -1."),
        (["--epochs", "0"], "keras-ext: --epochs must be a whole number of at least 1, got 0."),
        (["--patience", "0"], "keras-ext: --patience must be a whole number of at least 1, got 0."),
        (["--new", "zero"], "keras-ext: --new must be one of 'drawn', 'identity', got 'zero'."),
        (["--seed", "-1"], "keras-ext: --seed must be a whole number of at least 0, got -1."),
    ],
)
@pytest.mark.backend_free
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, message, monkeypatch, capsys):
    from keras_ext_cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["keras-ext", "grow", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    reported = capsys.readouterr()
    assert reported.err.strip().splitlines()[-1] == message
    assert reported.out == ""
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_the_command_says_what_it_is_for_and_has_an_example():
    from keras_ext_cli.grow import grow as grow_command

    for option in grow_command.params:
        said, _, example = option.help.partition("Example:")
        assert said.strip(), option.opts
        assert option.opts[0] in example, option.opts
