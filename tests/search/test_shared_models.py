"""Trials of one structure share one model's compiled steps, and train as each would alone."""

import contextlib
import functools

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext import _backend, layers, optimizers, schedules
from keras_ext.callbacks import SaturationMonitor, StopAt
from keras_ext.optimizers.clipping_rules import RULES
from keras_ext.search import results, watch
from keras_ext.search.together import shared_models, stacked_program
from keras_ext.search.together.input_number import InputNumber
from keras_ext.search.together.shared_models import SharedModels
from keras_ext.search.together.structure import NotComparable, structure_of
from keras_ext.search.trial_run import set_seed

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")
WEIGHTS = RNG.uniform(0.5, 2.0, 150).astype("float32")
STACKS = BACKEND == "torch"
# TensorFlow rounds otherwise in XLA; the loss after a few epochs of small steps differs in the last digits only.
TOLERANCE = 2e-5


class Nobody:
    """The tuner of models that no tuner builds."""


@pytest.fixture
def models(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_models, "_STEPS_WORTH_COMPILING", 0)
    monkeypatch.setattr(stacked_program, "_STEPS_WORTH_TRACING", 0)
    monkeypatch.setattr(stacked_program.StackedProgram, "_compare", lambda *_: None)
    shared = SharedModels(Nobody())
    with shared.sharing(tmp_path) as trial:
        shared.trial = trial
        yield shared


def expected(reason):
    """Return what a trial's report says of its program where side-by-side training has a `reason` against it."""
    return f"own: {reason}" if STACKS else "shared"


def mlp(rate=0.01, dropout=0.2, units=8, *, momentum=0.9, initializer="he_normal", build=True, extra=()):
    start = [keras.Input((6,))] if build else []
    model = keras.Sequential(
        [
            *start,
            keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer),
            layers.BatchNormalization(momentum=momentum),
            keras.layers.Activation("tanh"),
            layers.Dropout(dropout, seed=3),
            *extra,
            keras.layers.Dense(2, "softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(make, seed, models=None, **fit):
    """Return the history and the weights of a model that is built and trained from `seed`, alone or with `models`."""
    keras.backend.clear_session()
    set_seed(seed)
    model = make()
    if models is not None:
        models.attach(model)
    fit = {"x": X, "y": Y, "batch_size": 32, "epochs": 3, "verbose": 0, "validation_data": (X[:40], Y[:40]), **fit}
    history = model.fit(**fit)
    return history, model


def assert_same(one, other):
    assert one.epoch == other.epoch
    assert one.history.keys() == other.history.keys()
    for name, values in one.history.items():
        np.testing.assert_allclose(values, other.history[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def assert_trains_as_alone(models, make, seed, **fit):
    alone, _ = trained(make, seed, **fit)
    shared, _ = trained(make, seed, models, **fit)
    assert_same(alone, shared)


def assert_same_weights(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-3, atol=1e-5, err_msg=a.path)


FITS = {
    "arrays": {},
    "in order": {"shuffle": False},
    "a part held out": {"validation_data": None, "validation_split": 0.3},
    "weighted samples": {"sample_weight": WEIGHTS},
    "weighted classes": {"class_weight": {0: 1.0, 1: 3.0}},
    "held out with weights": {"validation_data": (X[:40], Y[:40], WEIGHTS[:40]), "validation_batch_size": 16},
    "no validation": {"validation_data": None},
    "every second epoch": {"validation_freq": 2, "epochs": 4},
    "steps of an epoch": {"steps_per_epoch": 3},
    "shuffled batches": {"shuffle": "batch"},
    "from a later epoch": {"initial_epoch": 1},
    "whole batches": {"batch_size": 50},
}


@pytest.mark.parametrize("name", FITS)
def test_a_shared_training_is_the_training_alone(models, name):
    for seed, rate, dropout in ((1, 0.01, 0.2), (2, 0.003, 0.4)):

        def make(rate=rate, dropout=dropout):
            return mlp(rate, dropout)

        alone, model = trained(make, seed, **FITS[name])
        shared, other = trained(make, seed, models, **FITS[name])
        assert_same(alone, shared)
        assert_same_weights(model, other)
    is_array = name not in ("steps of an epoch", "shuffled batches")
    assert models.trial.program == ("shared" if is_array else expected("its data is no arrays"))


def test_a_dataset_is_read_as_fit_reads_it(models):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return X[i * 40 : (i + 1) * 40], Y[i * 40 : (i + 1) * 40]

    for seed in (1, 2):
        assert_trains_as_alone(models, mlp, seed, x=Batches(), y=None, batch_size=None, shuffle=False)
    assert models.trial.program == expected("its data is no arrays")


@pytest.mark.parametrize("rule", ["sgd", "adam", "rmsprop", "adagrad", "clipped", "keras", "keras_clipped", "schedule", "half"])
def test_every_optimizer_shares(models, rule):
    makes = {
        "sgd": lambda rate: optimizers.SGD(rate, momentum=0.9, nesterov=True),
        "adam": lambda rate: optimizers.Adam(rate, weight_decay=0.01),
        "rmsprop": lambda rate: optimizers.RMSprop(rate, momentum=0.5, centered=True),
        "adagrad": optimizers.Adagrad,
        "clipped": lambda rate: optimizers.GradientClipping(optimizers.Adam(rate), "global_norm", 0.5),
        "keras": lambda rate: keras.optimizers.AdamW(rate, use_ema=True),
        "keras_clipped": lambda rate: keras.optimizers.SGD(rate, global_clipnorm=0.5, gradient_accumulation_steps=2),
        "schedule": lambda rate: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9)),
        "half": lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
    }
    for seed, rate in ((1, 0.01), (2, 0.003)):

        def make(rate=rate):
            model = mlp()
            model.compile(makes[rule](rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

        alone, model = trained(make, seed)
        shared, other = trained(make, seed, models)
        assert_same(alone, shared)
        for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
            np.testing.assert_allclose(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-3, atol=1e-5, err_msg=a.path)
    assert models.trial.program == "shared"


def test_several_inputs_and_outputs(models):
    def make():
        a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
        x = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()([a, b]))
        model = keras.Model({"a": a, "b": b}, {"kind": keras.layers.Dense(2, "softmax", name="kind")(x), "size": keras.layers.Dense(1)(x)})
        model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"}, metrics={"kind": ["accuracy"]})
        return model

    # Whole batches: on TensorFlow `fit` counts a smaller last one as a whole one in the loss of each output.
    fit = {"x": {"a": X, "b": X[::-1]}, "y": {"kind": Y, "size": X[:, :1]}, "validation_data": None, "batch_size": 50}
    for seed in (1, 2):
        assert_trains_as_alone(models, make, seed, **fit)
    assert models.trial.program == "shared"


def test_a_model_without_an_input_is_built_from_the_data(models):
    for seed in (1, 2):
        assert_trains_as_alone(models, lambda: mlp(build=False), seed)
    assert models.trial.program == "shared"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(models, policy):
    before = keras.config.dtype_policy()

    def make():
        keras.config.set_dtype_policy(policy)
        return mlp()

    try:
        for seed in (1, 2):
            alone, _ = trained(make, seed)
            shared, _ = trained(make, seed, models)
            # XLA keeps intermediate values in float32 where TensorFlow's own kernels round each.
            for name in ("loss", "val_loss"):
                np.testing.assert_allclose(alone.history[name], shared.history[name], rtol=0.02, err_msg=name)
    finally:
        keras.config.set_dtype_policy(before)
    assert models.trial.program == "shared"


def test_callbacks_see_the_weights_and_the_rate_of_their_trial(models):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel = keras.ops.convert_to_numpy(self.model.weights[0])
            seen.append((float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)), float(kernel.sum())))

    def callbacks():
        rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
        stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=10.0, restore_best_weights=True)
        return [rate, Look(), stop]

    for seed, rate in ((1, 0.01), (2, 0.003)):
        trained(lambda rate=rate: mlp(rate), seed, callbacks=callbacks())
        alone, seen = seen, []
        history, _ = trained(lambda rate=rate: mlp(rate), seed, models, callbacks=callbacks())
        np.testing.assert_allclose(seen, alone, rtol=1e-3)
        assert len(history.epoch) == 2  # stopped
        seen = []
    assert models.trial.program == "shared"


def test_a_callback_that_acts_within_an_epoch_is_called_after_each_step(models):
    norms = []

    class Every(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            norms.append(float(np.linalg.norm(keras.ops.convert_to_numpy(self.model.weights[0]))))

    for seed in (1, 2):
        trained(mlp, seed, callbacks=[Every()])
        alone, norms = norms, []
        trained(mlp, seed, models, callbacks=[Every()])
        assert len(set(alone)) == len(alone) == 15
        np.testing.assert_allclose(norms, alone, rtol=1e-4)
        norms = []
    assert models.trial.program == expected("a callback acts within its epochs")


@pytest.mark.parametrize("every", ["epoch", 2])
def test_the_monitor_takes_the_same_snapshots(models, every):
    for seed in (1, 2):
        monitors = [SaturationMonitor(X, Y, every=every, on_critical=None) for _ in range(2)]
        trained(mlp, seed, callbacks=[monitors[0]], batch_size=10)
        trained(mlp, seed, models, callbacks=[monitors[1]], batch_size=10)
        alone, shared = (monitor.snapshots for monitor in monitors)
        assert [(s.step, s.epoch) for s in shared] == [(s.step, s.epoch) for s in alone]
        np.testing.assert_allclose([s.loss for s in shared], [s.loss for s in alone], rtol=1e-4)
        updates = [[w.update for s in snapshots for w in s.weights] for snapshots in (shared, alone)]
        assert updates[0] == pytest.approx(updates[1], rel=0.01, nan_ok=True)
        assert [str(f) for f in monitors[1].findings] == [str(f) for f in monitors[0].findings]
    assert models.trial.program == "shared"


def test_stopping_in_mid_training(models):
    for seed in (1, 2):
        alone, _ = trained(mlp, seed, callbacks=[StopAt("loss", below=10.0)])
        shared, model = trained(mlp, seed, models, callbacks=[StopAt("loss", below=10.0)])
        assert len(alone.epoch) == 1
        assert_same(alone, shared)
        assert model.stop_training


def test_each_model_has_its_own_weights_afterwards(models):
    _, first = trained(mlp, 1, models)
    before = [keras.ops.convert_to_numpy(w).copy() for w in first.weights]
    history, second = trained(mlp, 2, models)
    for weight, value in zip(first.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), value)
    assert history.model is second
    scores = second.evaluate(X[:40], Y[:40], verbose=0, return_dict=True)
    assert scores["loss"] == pytest.approx(history.history["val_loss"][-1], rel=1e-4)


def test_a_training_with_nan_leaves_the_next_one_alone(models):
    trained(mlp, 1, models)
    spoiled, _ = trained(mlp, 2, models, x=np.full_like(X, np.nan))
    assert not np.isfinite(spoiled.history["loss"][-1])
    assert_trains_as_alone(models, mlp, 3)
    assert models.trial.program == "shared"


def test_an_error_in_mid_training_leaves_the_next_one_alone(models):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("in mid-training")

    trained(mlp, 1, models)
    with pytest.raises(RuntimeError, match="in mid-training"):
        trained(mlp, 2, models, callbacks=[Fails()])
    assert_trains_as_alone(models, mlp, 3)


def test_a_callback_that_changes_the_model_ends_its_sharing(models):
    class Freezes(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.layers[0].trainable = False

    trained(mlp, 1, models)
    trained(mlp, 2, models, callbacks=[Freezes()])
    assert_trains_as_alone(models, mlp, 3)
    # Side by side each trial changes its own model.
    assert models.trial.program == ("shared" if STACKS else "own")


def key(make, kept=[]):  # noqa: B006
    keras.backend.clear_session()
    model = make()
    model.optimizer.build(model.trainable_variables)
    kept.append(model)  # a closure that is gone may lend its place in memory to the next
    try:
        return structure_of(model).key
    except NotComparable:
        return object()  # like no other


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp(rate=0.5),
        lambda: mlp(dropout=0.45),
        lambda: mlp(initializer="zeros"),
        lambda: mlp(initializer=keras.initializers.HeNormal(seed=7)),
        lambda: mlp(momentum=0.8),
    ],
)
def test_first_values_are_no_part_of_a_structure(make):
    assert key(make) == key(mlp)


def scaled(factor):
    return keras.layers.Lambda(lambda x: x * factor)


class Scaled(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * float(np.sum(self.factor))


class Power(keras.losses.Loss):
    def __init__(self, exponent):
        super().__init__()
        self.exponent = exponent

    def call(self, y, p):
        return keras.ops.abs(p) ** self.exponent


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first / (step + 1.0)

    def get_config(self):
        return {}


class Smoother(keras.optimizers.Adam):
    pass


def cycling(steps):
    return compiled(keras.optimizers.SGD(schedules.OneCycle(0.1, steps)), "mse")


def falling(steps):
    return compiled(keras.optimizers.SGD(keras.optimizers.schedules.InverseTimeDecay(0.1, steps, 0.5, staircase=True)), "mse")


def penalized(strength):
    return keras.layers.Dense(8, kernel_regularizer=keras.regularizers.L2(strength))


def activated(exponent):
    return keras.layers.Activation(functools.partial(keras.ops.power, x2=exponent))


def compiled(*args, **kwargs):
    model = mlp()
    model.compile(*args, **kwargs)
    return model


def adapted(data):
    layer = keras.layers.Normalization()
    layer.adapt(data)
    return mlp(extra=[layer])


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (mlp, lambda: mlp(units=9)),
        (mlp, lambda: mlp(momentum=1.0)),
        (mlp, lambda: mlp(dropout=0.0)),
        (mlp, lambda: mlp(extra=[keras.layers.Dense(2)])),
        (lambda: mlp(extra=[scaled(1.0)]), lambda: mlp(extra=[scaled(2.0)])),
        (lambda: mlp(extra=[Scaled(1.0)]), lambda: mlp(extra=[Scaled(2.0)])),
        (lambda: mlp(extra=[Scaled([1.0])]), lambda: mlp(extra=[Scaled([2.0])])),
        (lambda: mlp(extra=[penalized(0.0)]), lambda: mlp(extra=[penalized(2.0)])),
        (lambda: mlp(extra=[Scaled(1.0), penalized(1.0)]), lambda: mlp(extra=[Scaled(1.0), penalized(2.0)])),
        (lambda: mlp(extra=[activated(1.0)]), lambda: mlp(extra=[activated(2.0)])),
        (lambda: compiled("adam", Power(1.0)), lambda: compiled("adam", Power(2.0))),
        (lambda: compiled(keras.optimizers.SGD(Falling(1.0)), "mse"), lambda: compiled(keras.optimizers.SGD(Falling(2.0)), "mse")),
        (lambda: mlp(extra=[keras.layers.Dropout(0.0)]), lambda: mlp(extra=[keras.layers.Dropout(0.2)])),
        (lambda: mlp(extra=[keras.layers.Rescaling(1.0)]), lambda: mlp(extra=[keras.layers.Rescaling(2.0)])),
        (lambda: adapted(np.zeros((4, 8))), lambda: adapted(np.ones((4, 8)))),
        (lambda: compiled("adam", "mse"), lambda: compiled("sgd", "mse")),
        (lambda: compiled("adam", "mse"), lambda: compiled("adam", "mae")),
        (lambda: compiled("adam", "mse"), lambda: compiled("adam", "mse", metrics=["mae"])),
        (lambda: compiled("adam", "mse"), lambda: compiled("adam", "mse", loss_weights=2.0)),
        (lambda: compiled("adam", lambda y, p: p), lambda: compiled("adam", lambda y, p: 2 * p)),
        (lambda: compiled(keras.optimizers.SGD(momentum=0.0), "mse"), lambda: compiled(keras.optimizers.SGD(momentum=0.9), "mse")),
        (lambda: compiled(keras.optimizers.Adam(), "mse"), lambda: compiled(keras.optimizers.Adam(weight_decay=0.1), "mse")),
        (lambda: compiled(Smoother(beta_1=0.8), "mse"), lambda: compiled(Smoother(beta_1=0.9), "mse")),
        (lambda: cycling(30), lambda: cycling(40)),
        (lambda: falling(3), lambda: falling(4)),
    ],
)
def test_what_a_step_computes_is_part_of_a_structure(make, other):
    assert key(make) != key(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp(extra=[Scaled(1.0), penalized(0.5), keras.layers.Dropout(0.1)]),
        lambda: adapted(np.ones((4, 8))),
        lambda: compiled("adam", power, metrics=[power]),
        lambda: compiled(optimizers.GradientClipping(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 5))), "mse"),
    ],
)
def test_models_that_are_alike_have_one_structure(make):
    assert key(make) == key(make)


def power(y, p):
    return keras.ops.mean(keras.ops.square(p))


def test_a_model_of_a_class_of_its_own_shares_nothing():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model.compile("adam", "mse")
    with pytest.raises(NotComparable, match="Own is a class of its own"):
        structure_of(model)


def search(folder, share, kind=keras_tuner.RandomSearch, monitor=None, **arguments):
    def build(hp):
        return mlp(hp.Float("rate", 1e-3, 1e-1, sampling="log"), hp.Float("dropout", 0.1, 0.5))

    tuner = kind(build, "val_loss", seed=1, directory=folder, project_name="p", **arguments)
    watch(tuner, monitor or SaturationMonitor(X, Y), seed=0, together=1 if share else "off")
    epochs = {} if kind is keras_tuner.Hyperband else {"epochs": 2}
    tuner.search(X[:110], Y[:110], validation_data=(X[110:], Y[110:]), verbose=0, **epochs)
    return tuner


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(keras_tuner.RandomSearch, {"max_trials": 4}), (keras_tuner.Hyperband, {"max_epochs": 4, "factor": 2})],
)
def test_a_search_that_shares_is_the_search_that_does_not(tmp_path, kind, arguments):
    tuners = [search(tmp_path / str(share), share, kind, **arguments) for share in (False, True)]
    alone, shared = ({r.trial: r for r in results(tuner)} for tuner in tuners)
    assert alone.keys() == shared.keys()
    for trial, record in alone.items():
        assert shared[trial].hyperparameters == record.hyperparameters
        assert shared[trial].score == pytest.approx(record.score, rel=1e-4)
        assert (shared[trial].epochs, shared[trial].diagnosis) == (record.epochs, record.diagnosis)
    programs = [r.program for r in sorted(shared.values(), key=lambda r: r.number)]
    if not STACKS:
        assert programs == ["own", *["shared"] * (len(programs) - 1)]
    assert {r.program for r in alone.values()} == {"own"}


def test_the_best_models_of_a_search_that_shares(tmp_path):
    tuner = search(tmp_path, True, max_trials=3)
    models = tuner.get_best_models(2)
    for model, record in zip(models, results(tuner), strict=False):
        loss = model.evaluate(X[110:], Y[110:], verbose=0, return_dict=True)["loss"]
        assert loss == pytest.approx(record.score, rel=1e-4)
    assert models[0] is not models[1]


def test_an_interruption_within_an_epoch_is_an_interruption(models, monkeypatch):
    """Ctrl-C can come while the state of a training is nowhere but in the program."""

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                function = self.model.train_function

                def interrupted(*args):
                    function(*args)
                    raise KeyboardInterrupt

                self.model.train_function = interrupted

    trained(mlp, 1, models)
    with pytest.raises(KeyboardInterrupt):
        trained(mlp, 2, models, callbacks=[Interrupted()])
    assert_trains_as_alone(models, mlp, 3)


def test_a_monitor_stops_a_training_after_the_same_step(models):
    x = X.copy()
    x[0] = np.nan  # in the first batch
    for seed in (1, 2):
        monitors = [SaturationMonitor(X, Y, on_critical="stop", on_finding=lambda finding: None) for _ in range(2)]
        fit = {"x": x, "batch_size": 5, "validation_data": None, "shuffle": False}
        alone, model = trained(mlp, seed, callbacks=[monitors[0]], **fit)
        shared, other = trained(mlp, seed, models, callbacks=[monitors[1]], **fit)
        assert len(alone.epoch) == len(shared.epoch) == 1
        steps = [int(keras.ops.convert_to_numpy(each.optimizer.iterations)) for each in (model, other)]
        assert steps[0] == steps[1] < 30
        assert [s.step for s in monitors[0].snapshots] == [s.step for s in monitors[1].snapshots]
    assert models.trial.program == "shared"


OURS, KERAS, SCHEDULES, LOSSES = optimizers, keras.optimizers, keras.optimizers.schedules, keras.losses
CODES = np.eye(2, dtype="float32")[Y]


def numbered(optimizer="sgd", loss="categorical_crossentropy", extra=(), kernel=None, activity=None, jit_compile="auto"):
    start = keras.layers.Dense(8, "tanh", kernel_regularizer=kernel, activity_regularizer=activity)
    model = keras.Sequential([keras.Input((6,)), start, *extra, keras.layers.Dense(2, "softmax")])
    model.compile(optimizer, loss, jit_compile=jit_compile)
    return model


def moments(v):
    return {"beta_1": v, "beta_2": 1 - (1 - v) / 100, "epsilon": v * 1e-5}


def clipped(rule):
    return lambda v: numbered(OURS.GradientClipping(KERAS.Adam(0.01, beta_1=v), rule, v / 10))


def by(schedule):
    return lambda v: numbered(KERAS.SGD(schedule(v)))


def noisy(v):
    flat = [keras.layers.Dropout(v / 2, seed=3), keras.layers.GaussianNoise(v / 2, seed=4), keras.layers.Reshape((2, 4))]
    # In XLA, where an epoch runs at once, Keras's layers draw otherwise on TensorFlow.
    return numbered(extra=[*flat, keras.layers.SpatialDropout1D(v / 2, seed=5), keras.layers.Flatten()], jit_compile=not STACKS)


def strong(v):
    inner = [
        keras.layers.Dense(8, bias_regularizer=keras.regularizers.L1(v / 10), kernel_regularizer=keras.regularizers.L1L2(v / 9, v / 8))
    ]
    return numbered(extra=inner, kernel=keras.regularizers.L2(v / 10), activity=keras.regularizers.L1L2(l2=v / 7))


def smoothed(loss):
    return lambda v: numbered(loss=loss(label_smoothing=v / 2))


# What a number is set to: two trials have .9 and .5.
NUMBERS = {
    "sgd": lambda v: numbered(OURS.SGD(0.05, momentum=v, nesterov=True, weight_decay=v / 5, global_clipnorm=v / 5)),
    "adam": lambda v: numbered(OURS.Adam(0.01, weight_decay=v, clipnorm=v / 10, amsgrad=True, **moments(v))),
    "rmsprop": lambda v: numbered(OURS.RMSprop(0.01, rho=v, momentum=v / 2, epsilon=v * 1e-5, clipvalue=v / 50)),
    "adagrad": lambda v: numbered(OURS.Adagrad(0.05, epsilon=v / 100)),
    "keras_sgd": lambda v: numbered(KERAS.SGD(0.05, momentum=v, weight_decay=v, clipnorm=v / 10)),
    "keras_adam": lambda v: numbered(KERAS.Adam(0.01, global_clipnorm=v / 10, **moments(v))),
    "keras_adamw": lambda v: numbered(KERAS.AdamW(0.01, weight_decay=v, clipvalue=v / 50, **moments(v))),
    "keras_adamax": lambda v: numbered(KERAS.Adamax(0.01, **moments(v))),
    "keras_nadam": lambda v: numbered(KERAS.Nadam(0.01, **moments(v))),
    "keras_lamb": lambda v: numbered(KERAS.Lamb(0.01, **moments(v))),
    "keras_lion": lambda v: numbered(KERAS.Lion(0.01, beta_1=v, beta_2=v / 2)),
    "keras_rmsprop": lambda v: numbered(KERAS.RMSprop(0.01, rho=v, momentum=v / 2, epsilon=v * 1e-5)),
    "keras_adagrad": lambda v: numbered(KERAS.Adagrad(0.05, epsilon=v / 100)),
    "keras_adadelta": lambda v: numbered(KERAS.Adadelta(0.5, rho=v, epsilon=v / 100)),
    "loss_scale": lambda v: numbered(KERAS.LossScaleOptimizer(KERAS.SGD(0.05, momentum=v))),
    **{rule: clipped(rule) for rule in RULES},
    "exponential": by(lambda v: SCHEDULES.ExponentialDecay(v / 10, int(10 * v), v)),
    "stairs": by(lambda v: SCHEDULES.ExponentialDecay(v / 10, 3, v, staircase=True)),
    "inverse_time": by(lambda v: SCHEDULES.InverseTimeDecay(v / 10, int(10 * v), v)),
    "polynomial": by(lambda v: SCHEDULES.PolynomialDecay(v / 10, 9, v / 100, 1 + v, cycle=True)),
    "cosine": by(lambda v: SCHEDULES.CosineDecay(v / 10, int(10 * v), v / 5, warmup_target=v / 5, warmup_steps=int(5 * v))),
    "restarts": by(lambda v: SCHEDULES.CosineDecayRestarts(v / 10, 6, 1.5, v, v / 5)),
    "piecewise": by(lambda v: SCHEDULES.PiecewiseConstantDecay([4, 8], [v / 10, v / 20, v / 5])),
    "one_cycle": by(lambda v: schedules.OneCycle(v / 10, 15, start_divisor=1 + v, end_divisor=10 * v + 1)),
    "cyclical": by(lambda v: schedules.CyclicalLearningRate(v / 50, v / 10, 4)),
    "warmup": by(lambda v: schedules.Warmup(v / 10, 4, v / 50)),
    "warmup_of_cosine": by(lambda v: schedules.Warmup(SCHEDULES.CosineDecay(v / 10, int(10 * v)), 4, v / 50)),
    "regularizers": strong,
    "noise": noisy,
    "normalization": lambda v: numbered(extra=[layers.BatchNormalization(momentum=v, debias=True)]),
    "keras_normalization": lambda v: numbered(extra=[keras.layers.BatchNormalization(momentum=v, epsilon=v / 10)]),
    "categorical": smoothed(LOSSES.CategoricalCrossentropy),
    "binary": smoothed(LOSSES.BinaryCrossentropy),
    "categorical_focal": smoothed(LOSSES.CategoricalFocalCrossentropy),
    "binary_focal": smoothed(LOSSES.BinaryFocalCrossentropy),
    "huber": lambda v: numbered(loss=LOSSES.Huber(v / 5)),
}


class EachStep(keras.callbacks.Callback):
    """It needs the model between two steps, so that Keras's own functions run them."""

    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.parametrize("name", NUMBERS)
def test_trials_may_differ_in_a_number(models, name):
    fit = {"y": CODES, "validation_data": (X[:40], CODES[:40]), "epochs": 2}
    alone, model = trained(lambda: NUMBERS[name](0.5), 2, **fit)
    # An epoch at once, and step by step; side by side there is one kind.
    for callbacks in ([], [EachStep()])[: 1 if STACKS else 2]:
        trained(lambda: NUMBERS[name](0.9), 1, models, callbacks=callbacks, **fit)
        shared, other = trained(lambda: NUMBERS[name](0.5), 2, models, callbacks=callbacks, **fit)
        if STACKS and name in ("keras_nadam", "noise"):  # NumPy computes a step of the one, the other draws by a seed that is a number
            assert models.trial.program.startswith("own: its step cannot be traced")
        else:
            assert models.trial.program == "shared"
        assert_same(alone, shared)
        assert_same_weights(model, other)
        for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
            np.testing.assert_allclose(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-3, atol=1e-5, err_msg=a.path)
        assert str(other.get_compile_config()) == str(model.get_compile_config())


def many(v, jit_compile="auto", is_penalized=True):
    drop = [layers.Dropout(v / 2, seed=3)] if STACKS else [keras.layers.Dropout(v / 2, seed=3), keras.layers.GaussianNoise(v / 2, seed=3)]
    extra = [*drop, keras.layers.BatchNormalization(momentum=v)]
    loss = LOSSES.CategoricalCrossentropy(label_smoothing=v / 2)
    penalty = keras.regularizers.L2(v / 10) if is_penalized else None
    return numbered(KERAS.SGD(0.05, momentum=v, weight_decay=v, clipnorm=v), loss, extra, penalty, None, jit_compile)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("callbacks", [[], *([] if STACKS else [[EachStep()]])], ids=["epochs", "steps"][: 1 if STACKS else 2])
def test_numbers_widen_no_dtype(models, policy, callbacks):
    before = keras.config.dtype_policy()

    def make(v=0.5):
        keras.config.set_dtype_policy(policy)
        # Keras on TensorFlow adds no penalty in bfloat16 to a loss.
        return many(v, "auto" if callbacks or STACKS else True, BACKEND != "tensorflow" or policy != "bfloat16")

    fit = {"y": CODES, "validation_data": None}
    try:
        alone, model = trained(make, 2, **fit)
        trained(lambda: make(0.9), 1, models, callbacks=callbacks, **fit)
        shared, other = trained(make, 2, models, callbacks=callbacks, **fit)
    finally:
        keras.config.set_dtype_policy(before)
    assert models.trial.program == "shared"
    assert [v.dtype for v in other.weights + other.optimizer.variables] == [v.dtype for v in model.weights + model.optimizer.variables]
    np.testing.assert_allclose(alone.history["loss"], shared.history["loss"], rtol=0.02)


def test_a_model_and_what_its_callbacks_read_have_the_numbers_of_their_own_trial(models, tmp_path):
    seen = []

    class Reads(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.optimizer.momentum, self.model.layers[0].kernel_regularizer.get_config()["l2"]))
            self.model.save(tmp_path / "within.keras")

    fit = {"y": CODES, "validation_data": None, "epochs": 1, "callbacks": [Reads()]}
    _, first = trained(lambda: many(0.9), 1, models, **fit)
    _, second = trained(lambda: many(0.5), 2, models, **fit)
    assert models.trial.program == "shared"
    assert seen == [(0.9, 0.9 / 10), (0.5, 0.5 / 10)]
    second.save(tmp_path / "after.keras")
    saved = [keras.models.load_model(tmp_path / name) for name in ("within.keras", "after.keras")]
    for v, model in ((0.9, first), *((0.5, model) for model in (second, *saved))):
        config = model.optimizer.get_config()
        assert (config["momentum"], config["weight_decay"], config["clipnorm"]) == (v, v, v)
        assert model.loss.get_config()["label_smoothing"] == v / 2
        assert model.layers[1].rate == v / 2
    for a, b in zip(second.weights, saved[1].weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


def test_a_monitor_and_a_prediction_use_the_numbers_of_their_trial(models):
    def make(v):
        return numbered(kernel=keras.regularizers.L2(v), extra=[keras.layers.BatchNormalization(epsilon=v)])

    predicted = []

    class Predicts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            predicted.append(self.model.predict(X[:5], verbose=0))

    fit = {"y": CODES, "validation_data": None, "epochs": 2}
    monitors = [SaturationMonitor(X, CODES, on_critical=None) for _ in range(3)]
    trained(lambda: make(0.9), 1, models, callbacks=[monitors[0], Predicts()], **fit)
    trained(lambda: make(0.5), 2, models, callbacks=[monitors[1], Predicts()], **fit)
    trained(lambda: make(0.5), 2, callbacks=[monitors[2], Predicts()], **fit)
    assert models.trial.program == "shared"
    np.testing.assert_allclose([s.loss for s in monitors[1].snapshots], [s.loss for s in monitors[2].snapshots], rtol=1e-4)
    np.testing.assert_allclose(predicted[2:4], predicted[4:], rtol=1e-4)


def test_an_input_has_no_value_that_code_could_branch_on():
    rate = InputNumber(*_backend.step_programs().scalars(keras.ops.convert_to_tensor([0.25, 0.75])), (0.0, 1.0))
    assert all((rate, rate > 0, rate < 1, rate <= 2, rate != 1, rate != 0, 1 - rate > 0))
    assert not any((rate < 0, rate >= 1))
    for ask in (lambda: rate > 0.5, lambda: rate == rate, lambda: rate < 1 - rate, lambda: float(rate), lambda: bool(2 * rate)):
        with pytest.raises(TypeError, match="trials"):
            ask()
    with _backend.step_programs().Traceable() if STACKS else contextlib.nullcontext():
        assert_widens_nothing(rate)


def assert_widens_nothing(rate):
    half = keras.ops.ones((2,), "bfloat16")
    # Keras's operations on JAX compare dtypes and know no weak ones: in pure bfloat16 they compute in float32, and weights stay bfloat16.
    by_keras = [] if BACKEND == "jax" else [keras.ops.multiply(half, 3 * rate)]
    for result in (half * rate, rate * half, rate / half, half - (1 - rate), half**-rate, *by_keras):
        assert keras.backend.standardize_dtype(result.dtype) == "bfloat16"
    assert float(keras.ops.convert_to_tensor(1.0 - rate)) == 0.75
    assert float(keras.ops.convert_to_tensor(rate**0.5 / 2 - 1)) == -0.75


def test_a_search_over_numbers_compiles_one_structure(tmp_path):
    def build(hp):
        return many(hp.Float("v", 0.1, 0.9))

    tuner = keras_tuner.RandomSearch(build, "val_loss", seed=1, directory=tmp_path, project_name="p", max_trials=4)
    watch(tuner, SaturationMonitor(X, CODES), seed=0)
    tuner.search(X[:110], CODES[:110], validation_data=(X[110:], CODES[110:]), verbose=0, epochs=1)
    programs = [record.program for record in sorted(results(tuner), key=lambda record: record.number)]
    if not STACKS:  # there fewer steps are not worth a program
        assert programs == ["own", "shared", "shared", "shared"]
