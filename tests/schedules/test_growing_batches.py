import copy
import operator
import pickle
import random
import warnings

import keras
import numpy as np
import pytest

from keras_ext.schedules.growing_batches import GrowingBatches

BACKEND = keras.backend.backend()
SIZES = {0: 3, 1: 4, 3: 7}
EPOCHS = 5
N = 23
DRAW = np.random.default_rng(7)
X = DRAW.normal(size=(N, 2)).astype("float32")
Y = (X @ [[2.0], [-1.0]] + 0.5 + 0.1 * DRAW.normal(size=(N, 1))).astype("float32")
WEIGHTS = DRAW.uniform(0.2, 2.0, size=N).astype("float32")
RATE = 0.05
# Some 30 steps, whose sums of at most 7 terms near 1 are each a few roundings of 6e-8 off.
CLOSE = {"rtol": 0, "atol": 5e-6}


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def linear(loss="mse", **kwargs):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(RATE), loss, **kwargs)
    model.set_weights([np.array([[0.3], [0.6]]), np.array([0.1])])
    return model


def fit(model, data, epochs=EPOCHS, **kwargs):
    callbacks = [*kwargs.pop("callbacks", []), data.callback()]
    return model.fit(data, epochs=epochs, **{"shuffle": False, "verbose": 0, **kwargs}, callbacks=callbacks)


def descent(steps, w=(0.3, 0.6), b=0.1):
    """Weights after gradient descent on mean squares in float64; of each step, the rows and their weights."""
    w = np.array(w)
    for rows, weights in steps:
        x, y = X[rows].astype("float64"), Y[rows, 0].astype("float64")
        error = weights * (x @ w + b - y)
        w, b = w - RATE * 2 * (error @ x) / len(rows), b - RATE * 2 * error.sum() / len(rows)
    return [w[:, None], np.array([b])]


def samples(batch):
    """The numbers of a batch's samples, without those of weight 0."""
    rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in batch[0]]
    return rows if len(batch) < 3 else [row for row, weight in zip(rows, batch[2], strict=True) if weight > 0]


def read(data, epochs):
    steps = []
    for epoch in epochs:
        data.begin_epoch(epoch)
        steps += [samples(data[i]) for i in range(len(data))]
    return steps


class Recording(GrowingBatches):
    """Notes of each batch the epoch, the place in it and the samples."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read = []

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.read.append((self._epoch, index, len(batch[0])))
        return batch


@pytest.mark.parametrize("remainder", ["drop", "pad"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_fit_descends_along_the_batches_of_each_epoch(remainder, weights):
    data = GrowingBatches(X, Y, weights, batch_sizes=SIZES, remainder=remainder, seed=5)
    model = linear()
    history = fit(model, data, validation_data=(X[:9], Y[:9]), validation_batch_size=9).history
    steps = read(GrowingBatches(X, Y, batch_sizes=SIZES, remainder=remainder, seed=5), range(EPOCHS))
    per_epoch = {"drop": [7, 5, 5, 3, 3], "pad": [8, 6, 6, 4, 4]}[remainder]
    assert len(steps) == sum(per_epoch) == data.steps(EPOCHS)
    expected = descent([(rows, np.ones(len(rows)) if weights is None else weights[rows]) for rows in steps])
    for got, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, **CLOSE)
    error = X[:9].astype("float64") @ expected[0] + expected[1] - Y[:9]
    np.testing.assert_allclose(history["val_loss"][-1], (error**2).mean(), **CLOSE)


@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_an_epoch_has_each_sample_at_most_once_and_pad_has_all(remainder):
    data = GrowingBatches(X, Y, batch_sizes={0: 5}, remainder=remainder)
    for epoch in range(3):
        steps = read(data, [epoch])
        rows = [row for step in steps for row in step]
        assert len(set(rows)) == len(rows) == (20 if remainder == "drop" else N)
        assert [len(data[i][0]) for i in range(len(data))] == [5] * len(steps)
        assert [len(step) for step in steps] == [5] * 4 + [3] * (remainder == "pad")


def test_the_order_hangs_on_seed_and_epoch_alone():
    def orders(seed):
        data = GrowingBatches(X, batch_sizes={0: N}, seed=seed)
        data.begin_epoch(4)
        data[0]
        return [tuple(rows) for rows in read(data, [3, 1, 2, 1])]

    assert orders(0) == orders(0)
    assert len(set(orders(0))) == 3
    assert set(orders(0)).isdisjoint(orders(1))
    assert read(GrowingBatches(X, batch_sizes={0: 10}, shuffle=False), [8]) == [[*range(10)], [*range(10, 20)]]


def test_a_resumed_training_ends_where_the_uninterrupted_one_does():
    data = GrowingBatches(X, Y, batch_sizes=SIZES, remainder="pad")
    whole, resumed = linear(), linear()
    random.seed(1)
    fit(whole, data)
    random.seed(2)
    fit(resumed, data, epochs=2)
    fit(resumed, GrowingBatches(X, Y, batch_sizes=SIZES, remainder="pad"), initial_epoch=2)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly")
def test_a_step_is_traced_at_most_once_for_each_size():
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, x):
            traces.append(x.shape[0])
            return x

    model = keras.Sequential([keras.layers.Input((2,)), Traced(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = GrowingBatches(X, Y, batch_sizes={0: 3, 2: 4, 4: 3, 5: 7, 6: 4}, remainder="pad")
    fit(model, data, epochs=2)
    traces.clear()
    fit(model, data, epochs=8, initial_epoch=1)
    assert traces == ([] if BACKEND == "tensorflow" else [4, 7])


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_of_a_padded_batch_is_that_of_the_short_one(reduction, weights):
    data = GrowingBatches(X, Y, weights, batch_sizes={0: 7}, remainder="pad")
    batch, rows = data[3], read(data, [0])[3]
    assert len(rows) == 2
    assert len(batch[0]) == 7
    model = linear(keras.losses.MeanSquaredError(reduction=reduction), weighted_metrics=["mae"])
    logs = model.test_on_batch(*batch, return_dict=True)
    error = (X[rows].astype("float64") @ [0.3, 0.6] + 0.1) - Y[rows, 0]
    own = np.ones(2) if weights is None else weights[rows].astype("float64")
    by = 2 if reduction == "sum_over_batch_size" else own.sum()
    np.testing.assert_allclose(logs["loss"], (own * error**2).sum() / by, rtol=1e-6)
    np.testing.assert_allclose(logs["mae"], (own * abs(error)).sum() / own.sum(), rtol=1e-6)


def two_headed():
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    hidden = keras.layers.Concatenate()([a, b])
    heads = {"p": keras.layers.Dense(1, name="p")(hidden), "q": keras.layers.Dense(1, name="q")(hidden)}
    model = keras.Model([a, b], heads)
    model.compile("sgd", {"p": "mse", "q": "mae"})
    return model


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_arrays_come_in_dicts_and_lists(structure):
    x = {"a": X, "b": Y} if structure == "dict" else [X, Y]
    data = GrowingBatches(x, {"p": Y, "q": -Y}, {"p": WEIGHTS, "q": WEIGHTS}, batch_sizes={0: 4, 1: 8}, remainder="pad")
    fit(two_headed(), data, epochs=2)
    data.begin_epoch(1)
    part, targets, weights = data[2]
    a, b = part.values() if structure == "dict" else part
    np.testing.assert_array_equal([b, targets["p"], -targets["q"]], [Y[[*samples((a,))]]] * 3)
    assert weights["p"].shape == weights["q"].shape == (8,)
    assert (weights["p"] == 0).tolist() == [False] * 7 + [True]


def test_a_model_without_targets_can_be_fitted():
    class Energy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            assert y is None
            return keras.ops.mean(keras.ops.square(y_pred))

    model = Energy()
    model.compile("sgd")
    data = GrowingBatches(X, batch_sizes={0: 4, 1: 8})
    losses = fit(model, data, epochs=3).history["loss"]
    assert losses[2] < losses[0]


def test_a_series_has_one_column():
    pandas = pytest.importorskip("pandas")
    assert GrowingBatches(pandas.Series(np.arange(N)), batch_sizes={0: 4}, shuffle=False)[1][0].tolist() == [[4], [5], [6], [7]]


def test_floats_come_as_floatx_and_other_arrays_as_they_are():
    x, y = GrowingBatches(X.astype("float64"), np.arange(N), batch_sizes={0: 4}, shuffle=False)[1]
    assert (x.dtype, y.dtype.kind, y.tolist()) == ("float32", "i", [4, 5, 6, 7])
    (tensors,) = GrowingBatches(keras.ops.convert_to_tensor(X), batch_sizes={0: 4}, shuffle=False)[1]
    np.testing.assert_array_equal(tensors, X[4:8])


@pytest.mark.parametrize("at_once", [1] if BACKEND == "torch" else [1, 2])
def test_the_progress_bar_counts_the_epochs_own_steps(capsys, at_once):
    model = linear(steps_per_execution=at_once)
    history = fit(model, Recording(X, Y, batch_sizes={0: 3, 1: 10, 2: 4}), epochs=3, verbose=1)
    shown = capsys.readouterr().out
    assert all(end in shown for end in ("7/7", "2/2", "5/5"))
    for steps in (pickle.loads(pickle.dumps(history.params))["steps"], copy.deepcopy(history.params)["steps"]):
        assert int(steps) == 7


def test_the_number_of_batches_counts_as_the_number_that_it_is_now():
    data = GrowingBatches(X, batch_sizes=SIZES)
    steps = data.num_batches
    for epoch, n in ((0, 7), (1, 5)):
        data.begin_epoch(epoch)
        assert (int(steps), float(steps), str(steps), [*range(steps)]) == (n, n, str(n), [*range(n)])
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "eq", "ne", "lt", "le", "gt", "ge"):
            operation = getattr(operator, name)
            for other in (2, 5, 2.5, 9):
                assert operation(steps, other) == operation(n, other)
                assert operation(other, steps) == operation(other, n)
            assert operation(steps, data.num_batches) == operation(n, n)
        assert min(2, steps) == 2
        assert bool(steps)


def test_trials_of_a_search_begin_with_the_first_size(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")
    data = Recording(X, Y, batch_sizes={0: 5, 1: 11})

    class Failing(keras.callbacks.Callback):
        """Ends the first trial with an error after epoch 1, and the second within epoch 1."""

        trials = []

        def on_train_begin(self, logs=None):
            self.trials.append(data.read[:])
            data.read.clear()

        def on_train_batch_end(self, batch, logs=None):
            if len(self.trials) == 2 and self.params["steps"] == 2:
                self.model.stop_training = True

        def on_epoch_end(self, epoch, logs=None):
            if len(self.trials) == 1 and epoch == 1:
                raise ValueError("on purpose")

    def build(hp):
        hp.Float("rate", 1e-3, 1e-1)
        return linear()

    tuner = keras_tuner.RandomSearch(
        build, keras_tuner.Objective("val_loss", "min"), max_trials=3, directory=tmp_path, max_consecutive_failed_trials=2
    )
    tuner.search(data, validation_data=(X, Y), epochs=3, shuffle=False, verbose=0, callbacks=[Failing(), data.callback()])
    trials = [*Failing.trials[1:], data.read]
    # What Keras reads ahead, to learn the shapes and of the stopped epoch, aside.
    epochs = [list(dict.fromkeys((e, n) for e, _, n in trial)) for trial in trials]
    assert epochs == [[(0, 5), (1, 11)], [(0, 5), (1, 11)], [(0, 5), (1, 11), (2, 11)]]


@pytest.mark.parametrize("end", ["begin", "batch", "epoch"])
def test_a_fit_after_one_that_failed_begins_again(end):
    class Interrupt(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            if end == "begin":
                raise KeyboardInterrupt

        def on_train_batch_end(self, batch, logs=None):
            if end == "batch" and self.params["steps"] == 5:
                raise KeyboardInterrupt

        def on_epoch_end(self, epoch, logs=None):
            if end == "epoch" and epoch == 1:
                raise KeyboardInterrupt

    data = GrowingBatches(X, Y, batch_sizes=SIZES)
    with pytest.raises(KeyboardInterrupt):
        fit(linear(), data, callbacks=[Interrupt()])
    model, fresh = linear(), linear()
    fit(model, data)
    fit(fresh, GrowingBatches(X, Y, batch_sizes=SIZES))
    np.testing.assert_array_equal(model.get_weights()[0], fresh.get_weights()[0])


def test_several_workers_read_the_same_batches_or_cannot_be_had():
    model, data = linear(), GrowingBatches(X, Y, batch_sizes=SIZES, workers=2)
    if BACKEND != "tensorflow":
        with pytest.raises(
            ValueError, match="`workers` must be 1, without multiprocessing, where Keras builds the model from a batch, got 2"
        ):
            fit(model, data)
        # Now nothing is left to build.
        model.set_weights(linear().get_weights())
    fit(model, data)
    expected = descent([(rows, np.ones(len(rows))) for rows in read(GrowingBatches(X, Y, batch_sizes=SIZES), range(EPOCHS))])
    np.testing.assert_allclose(model.get_weights()[0], expected[0], **CLOSE)


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_an_error_says_that_the_callback_is_missing(call):
    data = GrowingBatches(X, Y, batch_sizes=SIZES)
    model = linear()
    message = r"GrowingBatches cannot know which epoch begins without its callback: `model.fit\(data, shuffle=False, callbacks"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            getattr(model, call)(data, verbose=0)
    fit(model, data)
    with pytest.raises(ValueError, match=message):
        getattr(model, call)(data, verbose=0)


def test_an_error_says_what_does_not_go_with_the_callback():
    data = GrowingBatches(X, Y, batch_sizes=SIZES)
    with pytest.raises(ValueError, match="`steps_per_epoch` must be None, and `x` a GrowingBatches, where its callback is given, got 2"):
        fit(linear(), data, steps_per_epoch=2)
    with pytest.raises(ValueError, match="`steps_per_epoch` must be None, and `x` a GrowingBatches"):
        linear().fit(X, Y, callbacks=[data.callback()], verbose=0)


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError(reduction="sum"), [keras.losses.MeanSquaredError(reduction="sum")]])
def test_an_error_says_that_a_sum_cannot_be_padded(loss):
    data = GrowingBatches(X, Y, batch_sizes=SIZES, remainder="pad")
    with pytest.raises(
        ValueError, match=r"`loss` must be a mean over the samples .*, got 'sum'\. Compile with one, or pass remainder=.drop."
    ):
        fit(linear(loss), data)
    fit(linear(loss), GrowingBatches(X, Y, batch_sizes=SIZES), epochs=1)


def test_a_warning_says_that_fit_shuffles_the_batches(monkeypatch):
    monkeypatch.setattr(random, "shuffle", list.reverse)  # so that the first is another for certain
    data = GrowingBatches(X, Y, batch_sizes=SIZES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        fit(linear(), data, epochs=1, shuffle=True)
    assert ["Pass `shuffle=False` to `fit`" in str(w.message) for w in caught if w.category is UserWarning] == [True]


def test_geometric_sizes_grow_to_the_largest():
    def sizes(**kwargs):
        return GrowingBatches.geometric(np.zeros((1000, 1)), **kwargs).batch_sizes

    assert sizes(initial=8, factor=5, every=30) == {0: 8, 30: 40, 60: 200, 90: 1000}
    assert sizes(initial=8, factor=1.5, every=1, largest=30) == {0: 8, 1: 12, 2: 18, 3: 27, 4: 30}
    assert sizes(initial=1, factor=1.5, every=2, largest=3) == {0: 1, 4: 2, 6: 3}
    assert sizes(initial=1000, factor=2, every=1) == {0: 1000}
    data = GrowingBatches.geometric(X, Y, WEIGHTS, initial=4, factor=2, every=1, remainder="pad", seed=3)
    assert (data.remainder, data.seed, len(data[0])) == ("pad", 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_sizes": 32}, "`batch_sizes` must be a mapping of epochs to batch sizes, got 32. Such as {0: 32, 30: 160}."),
        ({"batch_sizes": {1: 4}}, "`batch_sizes` must be a mapping that names the size of epoch 0, got {1: 4}."),
        ({"batch_sizes": {0: 24}}, "`size of batch_sizes` must be at most the number of samples, 23, got 24."),
        ({"batch_sizes": {0: 0}}, "`size of batch_sizes` must be a whole number of at least 1, got 0."),
        ({"batch_sizes": {0: 2, -1: 3}}, "`epoch of batch_sizes` must be a whole number of at least 0, got -1."),
        ({"remainder": "keep"}, "`remainder` must be one of 'drop', 'pad', got 'keep'."),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1."),
        ({"shuffle": 1}, "`shuffle` must be True or False, got 1."),
        (
            {"y": None, "sample_weight": WEIGHTS},
            "`y` must be given where `sample_weight` is, got None. Weights belong to the loss that targets make.",
        ),
        (
            {"y": None, "remainder": "pad"},
            "`remainder` must be \"drop\" without `y`, got 'pad'. What is added has the weight 0 in the loss that targets make.",
        ),
        ({"x": "data.csv"}, "`x` must be an array, or a list, tuple or dict of arrays, got 'str'."),
        ({"x": None}, "`x` must be an array, or a list, tuple or dict of arrays, got 'NoneType'."),
        ({"y": Y[:3]}, "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [3, 23]."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        GrowingBatches(**{"x": X, "y": Y, "batch_sizes": SIZES, **arguments})
    assert str(error.value) == message


def test_there_is_no_batch_beyond_the_last():
    data = GrowingBatches(X, batch_sizes=SIZES)
    with pytest.raises(IndexError, match="Epoch 0 has 7 batches, there is none of index 7"):
        data[7]
    with pytest.raises(ValueError, match="`epoch` must be a whole number of at least 0, got -1"):
        data.begin_epoch(-1)
    assert [len(batch[0]) for batch in data] == [3] * 7
