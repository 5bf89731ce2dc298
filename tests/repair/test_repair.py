"""`repair`: a network that does not learn learns after it, a healthy one comes back equal, and the given one stays as it is."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_ext
from keras_ext.optimizers import GradientClipping
from keras_ext.repair.repaired import Repair

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

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power
        self.out = L.Dense(1)

    def call(self, x):
        return self.out(x**self.power)


def test_a_copy_that_computes_something_else_is_none():
    model = compiled(OwnWithDefaults(power=3))
    model(X[:1])
    with pytest.raises(ValueError, match="the copy computes something else"):
        keras_ext.repair(model, X, NUMBERS)


class OwnWithoutConfig(keras.Model):
    """A model whose class cannot be made again."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.out = L.Dense(1)

    def call(self, x):
        return self.out(self.function(x))

    def get_config(self):
        raise TypeError("no config")


def test_a_model_that_cannot_be_copied_is_reported():
    model = compiled(OwnWithoutConfig(ops.tanh))
    model(X[:1])
    with pytest.raises(ValueError, match=r"`model` is a OwnWithoutConfig, and a repair needs a copy of it: .*get_config"):
        keras_ext.repair(model, X, NUMBERS)


class LayerWithoutConfig(L.Layer):
    """A layer that cannot be made again, as its argument is a function."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def test_a_layer_that_cannot_be_copied_is_named():
    model = keras.Sequential([keras.Input((8,)), LayerWithoutConfig(lambda x: 2 * x, name="twice"), L.Dense(1)])
    with pytest.raises(ValueError, match=r"layer 'twice' .LayerWithoutConfig., which a repair must copy, has no `get_config`"):
        keras_ext.repair(compiled(model), X, NUMBERS)


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
