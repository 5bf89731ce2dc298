"""`repair`: a network that does not learn learns after it, a healthy one comes back equal, and the given one stays as it is."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

import keras_ext
from keras_ext.optimizers import GradientClipping
from keras_ext.remedies.change import Change
from keras_ext.repair import progress as trying
from keras_ext.repair.blueprint import Blueprint
from keras_ext.repair.proposals import Proposal, Proposals
from keras_ext.repair.rates import Rates
from keras_ext.repair.rebuild import rebuilt
from keras_ext.repair.repaired import Repair
from keras_ext.repair.trial import Trial
from keras_ext.tables import load_digits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(512, 8)).astype("float32")
CLASSES = (X[:, 0] + X[:, 1] > 0).astype("int32")
NUMBERS = (X[:, :1] - 2 * X[:, 1:2]).astype("float32")
L = keras.layers


def dense(*hidden, units=1, end=None, size=8, first=(), **more):
    layers = [L.Dense(16, activation, name=f"hidden_{i + 1}", **more) for i, activation in enumerate(hidden)]
    return keras.Sequential([keras.Input((size,)), *first, *layers, L.Dense(units, end, name="out")])


def compiled(model, optimizer="adam", loss="mse"):
    model.compile(optimizer, loss)
    return model


def trained(model, x, y, epochs=12):
    """Return the predictions of a copy's training: those of `model` itself, which is trained here."""
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    return ops.convert_to_numpy(model(x))


def unexplained(predictions, y):
    """The share of the variance that is not explained, 1 where nothing is known."""
    return float(np.mean((predictions - y) ** 2) / y.var()) if np.isfinite(predictions).all() else np.inf


def accuracy(predictions, y):
    chosen = predictions.argmax(-1) if predictions.shape[-1] > 1 else (predictions[:, 0] > 0.5).astype(int)
    return float((chosen == y).mean())


def remedies_of(done):
    return [change.remedy for change in done.changes]


def repaired(model, x, y, **more):
    """Repair, and check that the given model is as it was."""
    before = [np.array(w) for w in model.get_weights()]
    optimizer, iterations = model.optimizer, int(ops.convert_to_numpy(model.optimizer.iterations))
    config = model.get_config() if not type(model).__name__.startswith("Own") else None
    done = keras_ext.repair(model, x, y, **{"steps": 150, **more})
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.optimizer is optimizer
    assert int(ops.convert_to_numpy(optimizer.iterations)) == iterations
    assert config is None or model.get_config() == config
    assert done.model is not model
    assert not {id(v) for v in done.model.variables} & {id(v) for v in model.variables}
    return done


def test_a_healthy_model_comes_back_equal():
    model = compiled(dense("relu", "relu", kernel_initializer="he_normal"), keras.optimizers.Adam(0.003))
    done = repaired(model, X, NUMBERS)
    assert done.changes == ()
    assert all((a == b).all() for a, b in zip(model.get_weights(), done.model.get_weights(), strict=True))
    assert done.model.get_config() == model.get_config()
    assert done.model.optimizer.get_config() == model.optimizer.get_config()
    assert done.model.loss == "mse"
    assert "nothing to repair" in str(done)


def case_of_a_rate_too_high():
    return compiled(dense("relu", "relu"), keras.optimizers.SGD(30.0)), X, NUMBERS, "find_rate"


def case_of_a_rate_too_low():
    return compiled(dense("relu", "relu", kernel_initializer="he_normal"), keras.optimizers.SGD(1e-7)), X, NUMBERS, "find_rate"


def case_of_inputs_of_a_large_scale():
    return compiled(dense("sigmoid", "sigmoid"), keras.optimizers.SGD(0.01)), 1000 * X + 5000, NUMBERS, "scale_inputs"


def case_of_inputs_that_were_divided_twice():
    return compiled(dense("relu", first=[L.Rescaling(1e-4)]), keras.optimizers.SGD(0.05)), X, NUMBERS, "scale_inputs"


def case_of_targets_of_a_large_scale():
    return compiled(dense("relu"), keras.optimizers.SGD(0.01)), X, 1e5 * NUMBERS + 3e5, "scale_outputs"


def case_of_first_weights_of_zero():
    return compiled(dense("relu", "relu", kernel_initializer="zeros"), keras.optimizers.Adam(0.01)), X, NUMBERS, "draw_weights"


def case_of_biases_that_kill():
    minus = keras.initializers.Constant(-20.0)
    return compiled(dense("relu", "relu", bias_initializer=minus), keras.optimizers.Adam(0.003)), X, NUMBERS, "draw_weights"


def case_of_many_sigmoid_layers():
    return compiled(dense(*["sigmoid"] * 12), keras.optimizers.Adam(0.003)), X, NUMBERS, "exchange_activation"


def case_of_an_end_that_cannot_reach_the_targets():
    return compiled(dense("tanh", end="sigmoid"), keras.optimizers.Adam(0.01)), X, NUMBERS, "fit_output"


def case_of_weight_decay_too_strong():
    return compiled(dense("relu"), keras.optimizers.AdamW(0.005, weight_decay=150.0)), X, NUMBERS, "default_step"


def case_of_an_epsilon_too_large():
    return compiled(dense("relu"), keras.optimizers.Adam(0.003, epsilon=1e5)), X, NUMBERS, "default_step"


def case_of_clipping_to_nothing():
    return compiled(dense("relu"), keras.optimizers.SGD(0.03, clipvalue=1e-8)), X, NUMBERS, "default_step"


CASES = [make for name, make in sorted(globals().items()) if name.startswith("case_of_")]


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__.removeprefix("case_of_"))
def test_a_network_that_does_not_learn_learns_after_it(make):
    model, x, y, remedy = make()
    done = repaired(model, x, y)
    assert remedy in remedies_of(done)
    assert unexplained(trained(done.model, x, y), y) < 0.3
    assert not unexplained(trained(model, x, y), y) < 0.6


def test_a_sequential_stays_one_and_a_functional_model_stays_one():
    model, x, y, _ = case_of_inputs_of_a_large_scale()
    assert isinstance(repaired(model, x, y).model, keras.Sequential)
    inputs = keras.Input((8,))
    functional = compiled(keras.Model(inputs, model(inputs), name="outer"), keras.optimizers.SGD(0.01))
    done = repaired(functional, x, y)
    assert done.model.name == "outer"
    assert "scale_inputs" in remedies_of(done)


def test_all_layers_frozen():
    model = dense("relu", units=2, end="softmax")
    model.trainable = False
    done = repaired(compiled(model, keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy"), X, CLASSES)
    assert remedies_of(done) == ["thaw"]
    assert accuracy(trained(done.model, X, CLASSES), CLASSES) > 0.9


def test_dropout_that_drops_almost_all():
    model = dense("relu", first=[L.Dropout(0.99, name="drop")])
    done = repaired(compiled(model, keras.optimizers.Adam(0.01)), X, NUMBERS)
    assert "lower_dropout" in remedies_of(done)
    assert done.model.get_layer("drop").rate == 0.5
    assert model.get_layer("drop").rate == 0.99


def test_moving_statistics_that_do_not_follow():
    inputs = 30 * X + 20
    model = dense("relu", first=[L.BatchNormalization(momentum=0.99999, name="norm")])
    done = repaired(compiled(model, keras.optimizers.Adam(0.01)), inputs, NUMBERS, steps=300)
    assert "follow_statistics" in remedies_of(done)
    assert done.model.get_layer("norm").momentum == 0.99


@pytest.mark.parametrize(
    ("end", "units", "loss", "activation"),
    [
        ("softmax", 1, "binary_crossentropy", "sigmoid"),
        ("relu", 2, "sparse_categorical_crossentropy", "softmax"),
        ("relu", 1, "binary_crossentropy", "sigmoid"),
        (None, 1, "sparse_categorical_crossentropy", "sigmoid"),
        ("softmax", 2, keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax"),
    ],
)
def test_the_last_activation_and_the_loss_are_put_together(end, units, loss, activation):
    model = compiled(dense("relu", units=units, end=end), keras.optimizers.Adam(0.01), loss)
    y = CLASSES if units == 2 else CLASSES[:, None].astype("float32")
    done = repaired(model, X, y)
    assert done.model.layers[-1].activation.__name__ == activation
    assert getattr(done.model.loss, "from_logits", False) is False
    if remedies_of(done) or units == 1:
        assert remedies_of(done)[0] == "fit_output"
    assert accuracy(trained(done.model, X, y), CLASSES) > 0.9


def test_targets_that_a_binary_loss_does_not_take():
    y = 255 * (X - X.min()) / (X.max() - X.min())
    model = compiled(dense("relu", units=8, end="sigmoid"), keras.optimizers.Adam(0.01), "binary_crossentropy")
    done = repaired(model, X, y)
    assert done.model.loss == "mean_squared_error"
    assert remedies_of(done).count("fit_output") == 1
    assert unexplained(trained(done.model, X, y), y) < 0.3


def test_a_wrong_number_of_units_remains():
    model = compiled(dense("relu", units=1), "adam", "sparse_categorical_crossentropy")
    done = repaired(model, X, CLASSES[:, None] + 3)
    assert done.model.layers[-1].units == 1
    assert [f.symptom for f in done.remaining][:1] == ["output_mismatch"]


def test_several_inputs_and_nested_models():
    tower = keras.Sequential([keras.Input((8,)), L.Dense(8, "relu", name="inside", kernel_initializer="zeros")], name="tower")
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    z = L.Concatenate()([tower(a), tower(b)])
    model = compiled(keras.Model({"a": a, "b": b}, L.Dense(1, name="out")(L.Dense(16, "relu", name="h")(z))), keras.optimizers.Adam(0.01))
    x = {"a": X, "b": 3000 * X[::-1] + 700}
    done = repaired(model, x, NUMBERS, steps=200)
    assert {"scale_inputs", "draw_weights"} <= set(remedies_of(done))
    assert unexplained(trained(done.model, x, NUMBERS), NUMBERS) < 0.3
    assert [layer.name for layer in done.model.layers if "normalization" in layer.name] == ["input_normalization_2"]


@keras.saving.register_keras_serializable("tests")
class OwnCall(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, units=16, end=None, **kwargs):
        super().__init__(**kwargs)
        self.hidden = L.Dense(units, "relu", name="hidden", bias_initializer=keras.initializers.Constant(-20.0))
        self.out = L.Dense(1, end, name="out")

        self.units, self.end = units, end

    def call(self, x):
        return self.out(self.hidden(x))

    def get_config(self):
        return {"units": self.units, "end": self.end, "name": self.name}


def test_a_model_with_a_call_of_its_own_gets_what_needs_no_new_graph():
    model = compiled(OwnCall(units=32), keras.optimizers.Adam(0.01))
    model(X[:1])
    done = repaired(model, X, NUMBERS)
    assert "draw_weights" in remedies_of(done)
    assert done.model.hidden.units == 32
    assert unexplained(trained(done.model, X, NUMBERS), NUMBERS) < 0.3


def test_what_needs_a_new_graph_remains_for_it():
    model = compiled(OwnCall(end="softmax"), keras.optimizers.Adam(0.01), "binary_crossentropy")
    model(X[:1])
    done = repaired(model, X, CLASSES[:, None].astype("float32"))
    assert "output_mismatch" in {f.symptom for f in done.remaining}
    assert "fit_output" not in remedies_of(done)
    assert "End it with sigmoid" in str(done)


class OwnWithDefaults(keras.Model):
    """A model of which Keras knows the default of the argument alone."""

    def __init__(self, power=1, held=None, **kwargs):
        super().__init__(**kwargs)
        self.power = power
        self.held = held
        self.out = L.Dense(1)

    def call(self, x):
        return self.out(x**self.power)


class OwnWithoutConfig(keras.Model):
    """A model whose class cannot be made again."""

    def __init__(self, function, held=None):
        super().__init__()
        self.function = function
        self.held = held
        self.parts = [L.Dense(16, "relu"), L.Dense(1)]

    def call(self, x):
        return self.parts[1](self.parts[0](self.function(x)))

    def get_config(self):
        raise TypeError("no config")


@pytest.mark.parametrize(
    "make", [lambda: OwnWithDefaults(power=2), lambda: OwnWithoutConfig(lambda x: x**2)], ids=["defaults", "no config"]
)
def test_a_model_that_its_config_does_not_make_is_copied_by_its_attributes(make):
    y = X[:, :1] ** 2 - X[:, 1:2] ** 2
    model = compiled(make(), keras.optimizers.Adam(1e-7))
    model.fit(X, y, verbose=0)
    model.compile(keras.optimizers.Adam(1e-7), "mse")
    before = model.predict(X[:8], verbose=0)
    done = repaired(model, X, y)
    assert "find_rate" in remedies_of(done)
    np.testing.assert_array_equal(model.predict(X[:8], verbose=0), before)
    assert type(done.model) is type(model)
    assert len(done.model.layers) == len(model.layers)
    assert unexplained(trained(done.model, X, y, epochs=30), y) < 0.3
    np.testing.assert_array_equal(model.predict(X[:8], verbose=0), before)


def test_a_copy_that_computes_something_else_is_none():
    model = compiled(OwnWithDefaults(3, threading.Lock()))
    model(X[:1])
    with pytest.raises(ValueError, match="the copy computes something else"):
        keras_ext.repair(model, X, NUMBERS)


def test_a_model_that_cannot_be_copied_is_reported():
    model = compiled(OwnWithoutConfig(ops.tanh, threading.Lock()))
    model(X[:1])
    with pytest.raises(ValueError, match=r"`model` is a OwnWithoutConfig, and a repair needs a copy of it: .*get_config"):
        keras_ext.repair(model, X, NUMBERS)


class LayerWithoutConfig(L.Layer):
    """A layer that cannot be made again, as its arguments are objects."""

    def __init__(self, function, held=None, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.held = held
        self.inside = L.Dense(16, "relu", kernel_initializer=initializer, name="inside")

    def build(self, shape):
        self.inside.build(shape)

    def call(self, x):
        return self.inside(self.function(x))


def test_a_layer_without_a_config_is_copied_by_its_attributes():
    own = LayerWithoutConfig(lambda x: 2 * x, initializer=keras.initializers.HeNormal(seed=1), name="twice")
    model = compiled(keras.Sequential([keras.Input((8,)), own, L.Dense(1)]), keras.optimizers.Adam(1e-8))
    done = keras_ext.repair(model, X, NUMBERS, steps=150)
    assert remedies_of(done) == ["find_rate"]
    assert done.model.get_layer("twice").inside is not own.inside
    assert unexplained(trained(done.model, X, NUMBERS), NUMBERS) < 0.3


def test_a_layer_that_cannot_be_copied_is_named():
    held = LayerWithoutConfig(lambda x: 2 * x, threading.Lock(), name="twice")
    model = keras.Sequential([keras.Input((8,)), held, L.Dense(1)])
    with pytest.raises(ValueError, match=r"layer 'twice' .LayerWithoutConfig., which a repair must copy, has no `get_config`"):
        keras_ext.repair(compiled(model), X, NUMBERS)


def own_cross_entropy(y, p):
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def test_probabilities_stay_off_0_and_1_for_a_logarithm():
    x, y = 3 * X, CLASSES[:, None].astype("float32")
    model = compiled(dense("relu", "relu", end="sigmoid"), keras.optimizers.Adam(0.05), own_cross_entropy)
    done = repaired(model, x, y, steps=300)
    assert remedies_of(done) == ["bound_output"]
    model.fit(x, y, epochs=20, verbose=0)
    assert not np.isfinite(model.predict(x, verbose=0)).all()
    predicted = trained(done.model, x, y, epochs=20)
    assert accuracy(predicted, CLASSES) > 0.95
    assert 0 < predicted.min() < predicted.max() < 1


def rates_tried(monkeypatch):
    """Return the list that the rate of each trial will be in."""
    rates, inner = [], trying.tried

    def spy(model, *args, **settings):
        rates.append(float(ops.convert_to_numpy(model.optimizer.learning_rate)))
        return inner(model, *args, **settings)

    monkeypatch.setattr(trying, "tried", spy)
    return rates


def test_no_rate_is_tried_for_what_is_not_finite_before_the_first_step(monkeypatch):
    rates = rates_tried(monkeypatch)
    done = repaired(compiled(dense(*["exponential"] * 6), keras.optimizers.Adam(0.01)), 3 * X, NUMBERS)
    assert "exchange_activation" in remedies_of(done)
    first = remedies_of(done).index("exchange_activation")
    assert "find_rate" not in remedies_of(done)[:first]
    assert rates[:2] == pytest.approx([0.01, 0.01])
    assert np.isfinite(trained(done.model, X, NUMBERS)).all()


def test_weights_that_are_too_large_for_the_targets_are_drawn_before_a_rate_is_found():
    wide = keras.initializers.RandomNormal(stddev=1.0, seed=1)
    x = RNG.normal(size=(512, 64)).astype("float32")
    y = np.tanh(x[:, :10])
    model = compiled(dense(None, units=10, size=64, kernel_initializer=wide), keras.optimizers.SGD(3.0))
    done = repaired(model, x, y)
    assert remedies_of(done)[:2] == ["draw_weights", "find_rate"]
    assert unexplained(trained(done.model, x, y), y) < 0.4


@pytest.mark.parametrize(("step", "drawn"), [(0, ("hidden_2", "hidden_1")), (30, ("hidden_2",))])
def test_a_layer_that_is_saturated_from_the_start_is_drawn_with_the_poor_ones(step, drawn):
    finding = keras_ext.callbacks.Finding
    poor = finding("poor_initialization", "critical", "hidden_2", 0, 0, 12.0, 10.0, "Draw it again.")
    saturated = finding("saturated", "warning", "hidden_1", step, 0, 0.8, 0.5, "Use relu.")
    model = compiled(dense("tanh", "tanh"))
    proposals = Proposals(model, (X, NUMBERS, None), (), keras_ext.callbacks.Limits(), 32)
    assert proposals.of("draw_weights", Blueprint(), (poor, saturated)).change.layers == drawn


def test_kernels_with_a_skip_connection_start_smaller():
    model, data = compiled(dense(*["gelu"] * 16)), (X, NUMBERS, None)
    vanishing = keras_ext.callbacks.Finding("vanishing_gradient", "critical", "hidden_1", 0, 0, 0.0, 1.0, "Use relu.")
    made = Proposals(model, data, (), keras_ext.callbacks.Limits(), 32).of("add_skips", Blueprint(), (vanishing,))
    copy = rebuilt(model, made.blueprint, data)
    outputs = keras.Model(copy.inputs[0], [copy.get_layer(f"hidden_{i}_skip").output for i in (2, 16)])(X)
    first, last = (float(np.sqrt(np.mean(ops.convert_to_numpy(out) ** 2))) for out in outputs)
    assert first / np.e < last < first * np.e


def test_a_model_that_draws_samples_is_copied():
    class OwnSampled(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed = keras.random.SeedGenerator(3)
            self.out = L.Dense(1)

        def call(self, x):
            return self.out(x) + 0.1 * keras.random.normal((1,), seed=self.seed)

    model = compiled(OwnSampled(), keras.optimizers.Adam(0.01))
    model(X[:1])
    state = np.array(ops.convert_to_numpy(model.seed.state))
    done = repaired(model, X, NUMBERS)
    assert not done.changes
    assert (ops.convert_to_numpy(done.model.seed.state) == state).all()
    assert (ops.convert_to_numpy(model.seed.state) == state).all()


def test_rates_above_a_suggested_one_are_tried_while_the_loss_falls_faster(monkeypatch):

    def low(self, blueprint):
        return Proposal(self.change_to(1e-3), blueprint.plus(optimizer={"learning_rate": 1e-3}))

    monkeypatch.setattr(Rates, "suggested", low)
    rates = rates_tried(monkeypatch)
    done = repaired(compiled(dense(), keras.optimizers.SGD(1e-6)), X, NUMBERS)
    assert rates[:4] == pytest.approx([1e-6, 1e-3, 5e-3, 25e-3][: len(rates)])
    assert float(ops.convert_to_numpy(done.model.optimizer.learning_rate)) > 4e-3


def test_a_rate_that_leaves_the_loss_at_a_constant_is_not_kept(monkeypatch):
    dead = keras_ext.callbacks.Finding("dead_relu", "critical", "hidden_1", 0, 0, 1.0, 0.5, "Lower the rate.")
    progress = trying.Progress(compiled(dense("relu")), (X, NUMBERS, None), 32, 100, keras_ext.callbacks.Limits(), 0)
    progress.trial = Trial((dead,), loss=1.0, first=1.0, constant=1.0)
    monkeypatch.setattr(progress, "try_out", lambda blueprint: Trial((), loss=1.0, first=1.0, constant=1.0))
    assert not Rates(progress).keep_this(1e-5)
    monkeypatch.setattr(progress, "try_out", lambda blueprint: Trial((), loss=0.9, first=1.0, constant=1.0))
    assert Rates(progress).keep_this(1e-5)


@pytest.mark.parametrize(("suggested", "works", "tried"), [(0.1, 0.01, [0.1, 0.01]), (None, 0.0001, [0.01, 0.0001]), (None, 0.01, [0.01])])
def test_a_training_that_stays_at_a_constant_gets_larger_and_smaller_rates(suggested, works, tried, monkeypatch):
    model = compiled(dense("relu"), keras.optimizers.Adam(0.001))
    progress = trying.Progress(model, (X, NUMBERS, None), 32, 100, keras_ext.callbacks.Limits(), 0)
    progress.trial = Trial((), loss=1.0, first=1.0, constant=1.0)
    progress.changes = [Change("draw_weights", "", "", "")]
    search, rates = Rates(progress), []

    def trial(blueprint):
        rates.append(blueprint.optimizer["learning_rate"])
        return Trial((), loss=0.4 if 0.5 < rates[-1] / works < 2 else 1.1, first=1.0, constant=1.0)

    def rate(blueprint):
        if suggested is None:
            return None
        return Proposal(search.change_to(suggested), blueprint.plus(optimizer={"learning_rate": suggested}))

    monkeypatch.setattr(progress, "try_out", trial)
    monkeypatch.setattr(search, "suggested", rate)
    assert search.keep()
    assert rates == pytest.approx(tried, rel=0.01)
    assert progress.best.optimizer["learning_rate"] == pytest.approx(works, rel=0.01)


def test_recurrent_layers_start_with_gates_that_keep():
    steps = RNG.normal(size=(256, 12, 2)).astype("float32")
    y = steps[:, 0, :1]
    closed = L.LSTM(8, bias_initializer=keras.initializers.Constant(-10.0), unit_forget_bias=False, name="lstm")
    model = compiled(keras.Sequential([keras.Input((12, 2)), closed, L.Dense(1)]), keras.optimizers.Adam(0.01))
    done = repaired(model, steps, y, steps=200)
    assert "draw_weights" in remedies_of(done)
    bias = ops.convert_to_numpy(done.model.get_layer("lstm").cell.bias)
    assert (bias[8:16] == 1).all()
    assert (bias[:8] == 0).all()
    kernel = ops.convert_to_numpy(done.model.get_layer("lstm").cell.recurrent_kernel)[:, :8]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(8), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(dense("relu", "relu", kernel_initializer="zeros"), keras.optimizers.Adam(0.01))
    done = repaired(model, X, NUMBERS)
    assert "draw_weights" in remedies_of(done)
    assert done.model.get_layer("hidden_1").dtype_policy.name == policy
    assert unexplained(trained(done.model, X, NUMBERS), NUMBERS) < 0.3


def test_it_is_saved_and_loaded_in_a_new_process(tmp_path, in_new_process):
    model = compiled(dense(*["sigmoid"] * 8), keras.optimizers.SGD(0.01))
    done = repaired(model, 500 * X, 1e4 * NUMBERS)
    done.model.save(tmp_path / "better.keras")
    np.save(tmp_path / "x.npy", 500 * X[:8])
    code = (
        "import sys, keras, keras_ext, numpy as np; m = keras.models.load_model(sys.argv[1]); "
        "m.fit(np.load(sys.argv[2]), np.ones((8, 1)), verbose=0) if len(sys.argv) > 3 else None; "
        "print(np.asarray(m.predict(np.load(sys.argv[2]), verbose=0)).ravel().tolist())"
    )
    printed = in_new_process(code, tmp_path / "better.keras", tmp_path / "x.npy")
    np.testing.assert_allclose(eval(printed), done.model.predict(500 * X[:8], verbose=0).ravel(), rtol=1e-4)


def test_the_compile_settings_carry_over_and_gradients_are_clipped():
    inner = keras.optimizers.SGD(0.05, momentum=0.5)
    y = NUMBERS.copy()
    y[::64] *= 1e4  # now and then a gradient that breaks everything
    model = dense("relu", "relu")
    steps = 1 if keras.backend.backend() == "torch" else 2  # Keras takes one at a time there
    model.compile(inner, keras.losses.MeanSquaredError(), metrics=["mae"], steps_per_execution=steps)
    done = repaired(model, X, y)
    assert done.model.get_compile_config()["metrics"] == ["mae"]
    assert done.model.steps_per_execution == steps
    optimizer = done.model.optimizer.inner_optimizer if isinstance(done.model.optimizer, GradientClipping) else done.model.optimizer
    assert optimizer.momentum == 0.5
    assert np.isfinite(trained(done.model, X, y)).all()


def test_a_second_call_does_the_same_and_leaves_the_generators_alone():
    model, x, y, _ = case_of_many_sigmoid_layers()
    np.random.seed(3)
    first = keras_ext.repair(model, x, y, steps=100, seed=5)
    drawn = np.random.random()
    second = keras_ext.repair(model, x, y, steps=100, seed=5)
    np.random.seed(3)
    assert np.random.random() == drawn
    assert first.changes == second.changes
    assert all((a == b).all() for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "resnet"}, TypeError, "`model` must be a keras.Model"),
        ({"steps": 10}, ValueError, "`steps` must be a whole number of at least 50, got 10."),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a whole number of at least 1, got 0."),
        ({"y": None}, ValueError, "`y` must be targets"),
        ({"x": X[:, :3]}, ValueError, "`model` cannot be "),
        ({"limits": 3}, TypeError, "`limits` must be a keras_ext.callbacks.Limits or None"),
    ],
)
def test_bad_input_is_reported(arguments, error, message):
    with pytest.raises(error, match=message):
        keras_ext.repair(**{"model": compiled(dense("relu")), "x": X, "y": NUMBERS, **arguments})


def test_a_model_that_is_not_compiled_is_reported():
    with pytest.raises(ValueError, match=r"must be compiled before it can be repaired\. Call model\.compile"):
        keras_ext.repair(dense("relu"), X, NUMBERS)


def test_it_prints_the_changes_with_their_reasons():
    model = compiled(dense("relu", end="softmax"), keras.optimizers.Adam(0.01), "binary_crossentropy")
    done = repaired(model, X, CLASSES[:, None].astype("float32"))
    assert isinstance(done, Repair)
    assert 'fit_output: End "out" with sigmoid in place of softmax. For: A softmax over the one unit' in str(done)


def test_changes_that_a_rate_far_too_low_hides_are_tried_with_another_rate():
    data = load_digits().split()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), *(keras.layers.Dense(32, "sigmoid") for _ in range(10)), keras.layers.Dense(10, "softmax")]
    )
    model.compile(keras.optimizers.SGD(1e-6), "sparse_categorical_crossentropy", metrics=["accuracy"])
    done = keras_ext.repair(model, data.x, data.y)
    assert {"exchange_activation", "find_rate"} <= {change.remedy for change in done.changes}
    done.model.fit(data.x, data.y, epochs=10, verbose=0)
    assert done.model.evaluate(data.x_validation, data.y_validation, verbose=0, return_dict=True)["accuracy"] > 0.8


def test_dropout_of_predictions_goes():
    model = dense("relu")
    model.add(L.Dropout(0.8, name="last"))
    done = repaired(compiled(model, keras.optimizers.Adam(0.01)), X, NUMBERS)
    assert "lower_dropout" in remedies_of(done)
    assert done.model.get_layer("last").rate == 0.0
    assert unexplained(trained(done.model, X, NUMBERS), NUMBERS) < 0.3


def test_a_recurrent_layers_own_rates_of_dropout_fall():
    x = np.repeat(X[:, None], 4, axis=1)
    model = keras.Sequential([keras.Input((4, 8)), L.LSTM(8, dropout=0.2, recurrent_dropout=0.97, name="lstm"), L.Dense(1)])
    blueprint, what, _ = Proposals(compiled(model), (x, NUMBERS, None), (), keras_ext.callbacks.Limits(), 32)._lower_dropout(
        Blueprint(), []
    )
    assert what == 'Set the rate of "lstm" from 0.97 to 0.5.'
    new = rebuilt(model, blueprint, (x, NUMBERS, None))
    assert (new.get_layer("lstm").dropout, new.get_layer("lstm").recurrent_dropout) == (0.2, 0.5)
    assert new.get_layer("lstm").get_config()["recurrent_dropout"] == 0.5


def test_losses_of_a_dict_stay_with_their_outputs():
    inputs = keras.Input((8,))
    hidden = L.Dense(16, "relu")(inputs)
    # In another order than that of their names, by which a dict is sorted.
    model = keras.Model(inputs, [L.Dense(1, name="value")(hidden), L.Dense(2, "softmax", name="class_")(hidden)])
    losses = {"value": "mse", "class_": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile(keras.optimizers.Adam(0.01), losses)
    done = repaired(model, X, {"value": NUMBERS, "class_": CLASSES})
    assert done.model.loss["value"] == "mse"
    if keras.backend.backend() != "tensorflow":  # where Keras goes back to the logits, and nothing is wrong
        assert "fit_output" in remedies_of(done)
        assert done.model.loss["class_"].from_logits is False
    done.model.fit(X, {"value": NUMBERS, "class_": CLASSES}, epochs=12, verbose=0)
    assert accuracy(ops.convert_to_numpy(done.model(X)[1]), CLASSES) > 0.9


@pytest.mark.parametrize("argument", ["activity_regularizer", "kernel_regularizer", "kernel_constraint"])
def test_what_presses_weights_or_outputs_to_nothing_is_left_out(argument):
    by = keras.constraints.MaxNorm(0.01) if "constraint" in argument else keras.regularizers.L1(5.0)
    layers = [L.Dense(32, "relu", name=f"hidden_{i}", **{argument: by}) for i in range(2)]
    model = compiled(keras.Sequential([keras.Input((X.shape[1],)), *layers, L.Dense(1)]), keras.optimizers.Adam(0.01))
    done = repaired(model, X, NUMBERS)
    (change,) = [c for c in done.changes if c.remedy == "leave_out_penalties"]
    assert change.what == f'Leave out {argument} of "hidden_0", "hidden_1".'
    assert all(getattr(done.model.get_layer(f"hidden_{i}"), argument) is None for i in range(2))
    assert getattr(model.layers[0], argument) is by
