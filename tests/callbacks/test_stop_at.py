import copy
import functools

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import StopAt


class Course(keras.callbacks.Callback):
    """Logs a course that is given: its next number at the end of each epoch; epochs without one get None."""

    def __init__(self, course, name="score"):
        super().__init__()
        self.course, self.name = course, name

    def on_epoch_end(self, epoch, logs=None):
        if self.course[epoch] is not None:
            logs[self.name] = self.course[epoch]


@functools.cache
def any_network():
    """One for all tests, most of whose time would go into compiling it."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def fit(stop, epochs=6, before=(), **arguments):
    x = np.ones((8, 1), "float32")
    history = any_network().fit(x, x, batch_size=4, epochs=epochs, verbose=0, callbacks=[*before, stop], **arguments)
    return history.history


def ends_at(course, **target):
    stop = StopAt("score", **target)
    epochs = len(fit(stop, len(course), [Course(course)])["score"])
    if stop.stopped_epoch is not None:
        assert epochs == stop.stopped_epoch + 1
    else:
        assert epochs == len(course)
    return stop.stopped_epoch


@pytest.mark.parametrize(
    ("course", "target", "epoch"),
    [
        ([3, 2, 1, 0], {"below": 1.5}, 2),
        ([3, 2, 1, 0], {"below": 2}, 1),
        ([0, 1, 2, 3], {"above": 1.5}, 2),
        ([0, 1, 2, 3], {"above": 2}, 2),
        ([9, -1], {"below": 0}, 1),
        ([0.5, 0.5, 0.5], {"below": 0.4}, None),
        ([0.5, 0.5, 0.5], {"above": 0.6}, None),
        ([float("nan")] * 3, {"below": 1e30}, None),
        ([float("nan")] * 3, {"above": -1e30}, None),
        ([float("nan"), 1.0], {"below": 1e30}, 1),
        ([0.0, float("inf"), 0.0], {"above": 5.0}, 1),
        ([float("inf"), float("-inf")], {"below": -5.0}, 1),
        ([1e300, -1e300], {"below": 0.0}, 1),
        # Nine in ten, as Keras's float32 metrics have it.
        ([0.0, float(np.float32(0.9))], {"above": 0.9}, 1),
        ([0.0, float(np.nextafter(np.float32(0.9), np.float32(0)))], {"above": 0.9}, None),
        ([1.0, float(np.float32(0.3))], {"below": 0.3}, 1),
        ([np.float64(3), np.array(0.5)], {"below": 1.0}, 1),
    ],
)
def test_the_epoch_that_reaches_the_target_is_the_last(course, target, epoch):
    assert ends_at(course, **target) == epoch


def test_a_real_validation_loss():
    model = any_network()
    first = [np.zeros((1, 1)), np.zeros(1)]
    model.set_weights(first)
    x = np.ones((8, 1), "float32")
    free = model.fit(x, x, batch_size=4, epochs=8, verbose=0, validation_data=(x, x)).history["val_loss"]
    target = (free[3] + free[4]) / 2
    stop = StopAt("val_loss", below=target)
    model.set_weights(first)
    history = fit(stop, 8, validation_data=(x, x))
    np.testing.assert_allclose(history["val_loss"], free[:5], rtol=1e-5)
    assert stop.stopped_epoch == 4
    assert stop.stopped_batch is None


def test_the_weights_stay_those_of_the_end():
    model = any_network()
    start = [np.zeros((1, 1)), np.zeros(1)]
    model.set_weights(start)
    stop = StopAt("loss", below=0.3)
    fit(stop)
    stopped = model.get_weights()
    assert 0 < stop.stopped_epoch < 5
    model.set_weights(start)
    fit(StopAt("loss", below=0.0), stop.stopped_epoch + 1)
    np.testing.assert_allclose(stopped[0], model.get_weights()[0], rtol=1e-6)
    assert 0 < stopped[0] < 0.5


@pytest.mark.parametrize("every", ["epoch", "batch"])
@pytest.mark.parametrize("name", ["val_loss", "los", "accuracy"])
def test_a_name_that_is_not_there(name, every):
    if every == "batch" and name.startswith("val_"):
        name = "loss of validation"
    with pytest.raises(ValueError) as caught:
        fit(StopAt(name, below=1.0, every=every))
    assert str(caught.value) == (
        f"StopAt: there is no {name!r} in the logs of the {every}; there are: 'loss', 'mae'. Compile the model with that metric, "
        'give fit validation_data for "val_" names, put StopAt behind the callback that logs it, or write missing="wait".'
    )


def test_a_name_that_only_some_epochs_log():
    x = np.ones((4, 1), "float32")
    arguments = {"validation_data": (x, x), "validation_freq": 2}
    with pytest.raises(ValueError, match="no 'val_loss' in the logs"):
        fit(StopAt("val_loss", below=1e6), **arguments)
    stop = StopAt("val_loss", below=1e6, missing="wait")
    fit(stop, **arguments)
    assert stop.stopped_epoch == 1
    # What was logged once may be missing.
    stop = StopAt("score", below=1.0)
    fit(stop, 4, [Course([2.0, None, None, 0.0])])
    assert stop.stopped_epoch == 3
    stop = StopAt("score", below=1.0, missing="wait")
    fit(stop, 2, [Course([None, None])])
    assert stop.stopped_epoch is None


def counting():
    """A model and its targets: eight batches an epoch, and the loss of a batch is its number, so that the means are known."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), lambda y, prediction: keras.ops.mean(y + 0 * prediction, axis=-1))
    return model, np.arange(8, dtype="float32")[:, None]


def test_batches():
    model, y = counting()

    def run(target, **arguments):
        stop = StopAt("loss", every="batch", **target)
        history = model.fit(y, y, batch_size=1, epochs=3, shuffle=False, verbose=0, callbacks=[stop], **arguments)
        return stop.stopped_epoch, stop.stopped_batch, len(history.history["loss"]), history.history["loss"][-1]

    assert run({"above": 1.9}) == (0, 4, 1, 2.0)  # (0 + 1 + 2 + 3 + 4) / 5
    assert run({"above": 3.5}) == (0, 7, 1, 3.5)
    assert run({"above": 3.6}) == (None, None, 3, 3.5)
    # Counts again in a second training.
    assert run({"above": 1.0}, initial_epoch=2) == (2, 2, 1, 1.0)


def test_every_epoch_does_not_snapshot_at_batches():
    model, y = counting()
    stop = StopAt("loss", below=1.0)
    model.fit(y, y, batch_size=1, epochs=2, shuffle=False, verbose=0, callbacks=[stop])
    assert stop.stopped_epoch is None


def test_with_every_batch_what_only_the_epoch_logs_ends_it_as_well():
    stop = StopAt("score", below=1.0, every="batch", missing="wait")
    fit(stop, 4, [Course([2.0, 0.0, 0.0, 0.0])])
    assert (stop.stopped_epoch, stop.stopped_batch) == (1, None)


def test_a_second_training_starts_again():
    stop = StopAt("score", below=1.0)
    fit(stop, 3, [Course([2.0, 0.0, 0.0])])
    assert stop.stopped_epoch == 1
    fit(stop, 2, [Course([2.0, 2.0])])
    assert stop.stopped_epoch is None
    with pytest.raises(ValueError, match="no 'score'"):
        fit(stop)


def test_copies_do_not_share_what_happened():
    stop = StopAt("score", below=1.0)
    twin = copy.deepcopy(stop)
    fit(twin, 2, [Course([0.0, 0.0])])
    assert (twin.stopped_epoch, stop.stopped_epoch) == (0, None)


def test_a_trial_of_a_search_that_it_ends_is_complete(tmp_path):
    class Space(keras_tuner.HyperModel):
        def build(self, hp):
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
            model.compile(keras.optimizers.SGD(hp.Choice("rate", [0.0, 0.1])), "mse")
            return model

    tuner = keras_tuner.GridSearch(Space(), keras_tuner.Objective("val_loss", "min"), directory=tmp_path, project_name="p")
    x = np.ones((8, 1), "float32")
    stop = StopAt("val_loss", below=0.1)
    tuner.search(x, x, epochs=8, batch_size=4, validation_data=(x, x), verbose=0, callbacks=[stop])
    trials = {t.hyperparameters.get("rate"): t for t in tuner.oracle.trials.values()}
    assert {rate: t.status for rate, t in trials.items()} == {0.0: "COMPLETED", 0.1: "COMPLETED"}
    assert trials[0.0].best_step == 0
    assert trials[0.0].score == 1.0
    assert 0 < trials[0.1].score <= 0.1
    assert 0 < trials[0.1].best_step < 7
    assert stop.stopped_epoch is None


BAD = [
    ({"monitor": ""}, "`monitor` must be the name of a log, got ''."),
    ({"monitor": None}, "`monitor` must be the name of a log, got None."),
    ({"below": None}, "StopAt needs exactly one of `below` and `above`, got below=None, above=None."),
    ({"above": 2.0}, "StopAt needs exactly one of `below` and `above`, got below=1.0, above=2.0."),
    ({"below": float("nan")}, "`below` must be a number in [-3.40282e+38, 3.40282e+38], got nan."),
    ({"below": None, "above": float("inf")}, "`above` must be a number in [-3.40282e+38, 3.40282e+38], got inf."),
    ({"below": "1"}, "`below` must be a number in [-3.40282e+38, 3.40282e+38], got '1'."),
    ({"below": True}, "`below` must be a number in [-3.40282e+38, 3.40282e+38], got True."),
    ({"every": "step"}, "`every` must be one of 'epoch', 'batch', got 'step'."),
    ({"missing": "ignore"}, "`missing` must be one of 'error', 'wait', got 'ignore'."),
    (
        {"monitor": "val_loss", "every": "batch"},
        "`every` must be \"epoch\" for a log of the validation, got 'batch'. Batches have no 'val_loss'.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        StopAt(**{"monitor": "loss", "below": 1.0, **arguments})
    assert str(caught.value) == message
