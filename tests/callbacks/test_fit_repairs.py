"""`on_critical="repair"`: changes between the epochs of a fit, seen by the compiled step, reported, and undone where they do not help."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import SaturationMonitor
from keras_ext.optimizers import GradientClipping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 8)).astype("float32")
Y = (X[:, :1] - X[:, 1:2]).astype("float32")


def network(bias=0.0, optimizer=None, kernel="he_normal"):
    hidden = keras.layers.Dense(32, "relu", kernel_initializer=kernel, bias_initializer=keras.initializers.Constant(bias), name="hidden")
    model = keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(1, name="out")])
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse")
    return model


def fitted(model, epochs=20, on_critical="repair", x=X, y=Y, **more):
    monitor = SaturationMonitor(x, y, on_critical=on_critical)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=[monitor], **more)
    return monitor, [str(w.message) for w in caught if "SaturationMonitor" in str(w.message)]


def loss_of(model):
    """The mean squared error by NumPy."""
    return float(np.mean((ops.convert_to_numpy(model(X)) - Y) ** 2))


def advice(monitor):
    return " ".join(f.advice for f in monitor.findings if f.severity == "critical")


def test_a_dead_layer_is_drawn_again_and_then_learns(tmp_path):
    dead = network(bias=-50.0)
    fitted(dead, on_critical=None)
    assert loss_of(dead) > 0.9 * Y.var()
    model = network(bias=-50.0)
    monitor, said = fitted(model)
    assert loss_of(model) < 0.1 * Y.var()
    assert 'the weights of "hidden" are drawn again' in advice(monitor)
    assert len(said) == 1
    monitor.to_json(tmp_path / "run.json")
    assert "Repaired after epoch" in json.dumps(json.loads((tmp_path / "run.json").read_text())["findings"])


def test_a_rate_that_is_far_too_low_is_raised_in_the_compiled_step():
    model = network(optimizer=keras.optimizers.SGD(1e-7))
    monitor, _ = fitted(model, epochs=40)
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) > 1e-7
    assert "learning_rate from 1e-07 to 1e-06" in advice(monitor)


def test_weights_that_are_not_finite_are_drawn_again_with_the_slots():
    model = network(optimizer=keras.optimizers.SGD(30.0, momentum=0.9))
    monitor, _ = fitted(model, epochs=12)
    assert "drawn again" in advice(monitor)
    first = network(optimizer=keras.optimizers.SGD(30.0, momentum=0.9))
    fitted(first, epochs=12, on_critical=None)
    assert not np.isfinite(loss_of(first))


def test_gradients_are_clipped_in_a_step_that_is_compiled_again():
    y = 3e3 * Y
    model = network(optimizer=keras.optimizers.SGD(1e-9))
    monitor, _ = fitted(model, epochs=20, y=y)
    assert "global_clipnorm=1" in advice(monitor)
    # The joint norm of a step with clipping is the rate; the gradients themselves are over a thousand.
    before = [np.array(w) for w in model.get_weights()]
    model.optimizer.global_clipnorm = 1.0
    model.optimizer.learning_rate = 1.0
    model.make_train_function(force=True)
    model.fit(X[:32], y[:32], batch_size=32, epochs=1, verbose=0)
    assert np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(model.get_weights(), before, strict=True))) == pytest.approx(1.0, rel=1e-3)


def test_a_change_that_does_not_help_is_undone():
    y = RNG.permutation(Y)  # nothing to learn
    model = network(bias=-50.0)
    monitor, said = fitted(model, y=y, epochs=14)
    assert "Undone after epoch" in advice(monitor)
    # The bias is what it was, but for the steps of a dead layer.
    assert ops.convert_to_numpy(model.layers[0].bias).max() < -40
    assert sum("Undone" in text for text in said) >= 1


def test_an_optimizer_that_clips_and_a_rate_by_schedule_are_left_alone():
    rate = keras.optimizers.schedules.ExponentialDecay(1e-9, 10, 0.9)
    model = network(optimizer=GradientClipping(keras.optimizers.SGD(rate)))
    monitor, _ = fitted(model, epochs=12, y=3e3 * Y)
    assert "Repaired" not in advice(monitor)
    assert model.optimizer.inner_optimizer.global_clipnorm is None


def test_a_healthy_fit_is_the_same_as_without_it():
    weights = []
    for on_critical in ("repair", None):
        keras.utils.set_random_seed(1)
        model = network()
        monitor, _ = fitted(model, epochs=4, on_critical=on_critical)
        weights.append(model.get_weights())
        assert not [f for f in monitor.findings if f.severity == "critical"]
    assert all((a == b).all() for a, b in zip(*weights, strict=True))


def test_what_has_no_change_inside_a_fit_is_a_warning():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, "softmax")])
    model.compile("adam", "binary_crossentropy")
    monitor = SaturationMonitor(X, (Y > 0).astype("float32"), on_critical="repair")
    with pytest.warns(UserWarning, match="softmax over the one unit"):
        model.fit(X, (Y > 0).astype("float32"), epochs=16, verbose=0, callbacks=[monitor])
