"""What every schedule owes: fit on the current backend, copies, files, pictures, and one wording for bad arguments."""

import copy
import inspect
import json
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers, schedules
from keras_ext.schedules import CyclicalLearningRate, OneCycle, Schedule, Warmup

MAKE = {
    "triangular": lambda: CyclicalLearningRate(0.01, 0.05, 3),
    "triangular2": lambda: CyclicalLearningRate(0.01, 0.05, 3, "triangular2"),
    "exp_range": lambda: CyclicalLearningRate(0.01, 0.05, 3, "exp_range", gamma=0.9),
    "one cycle": lambda: OneCycle(0.05, 12, 0.4, 10.0, 100.0, "linear"),
    "one cycle, cosine": lambda: OneCycle(0.05, 10),
    "warm-up": lambda: Warmup(0.05, 4, 0.01),
    "nested": lambda: Warmup(Warmup(keras.optimizers.schedules.CosineDecay(0.05, 8), 2, start=0.01), 3),
}
OPTIMIZERS = {
    "Keras SGD": keras.optimizers.SGD,
    "Keras Adam": keras.optimizers.Adam,
    "SGD": optimizers.SGD,
    "Adam": optimizers.Adam,
    "RMSprop": optimizers.RMSprop,
    "Adagrad": optimizers.Adagrad,
    "GradientClipping": lambda rate: optimizers.GradientClipping(optimizers.SGD(rate), threshold=1e6),
}
every_schedule = pytest.mark.parametrize("name", MAKE)


class Rates(keras.callbacks.Callback):
    """Notes before each step the rate that the optimizer says it will take, and the weight."""

    def __init__(self):
        super().__init__()
        self.rates, self.weights = [], []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.rates.append(float(ops.convert_to_numpy(model.optimizer.learning_rate)))
        self.weights.append(ops.convert_to_numpy(model.trainable_weights[0]).item())

    def on_train_end(self, logs=None):
        self.weights.append(ops.convert_to_numpy(self.model.trainable_weights[0]).item())


def the_output(_, y):
    """A loss whose gradient for the weight is the input: 1."""
    return ops.mean(y, axis=-1)


def fitted(optimizer, steps=12, first=0, **arguments):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer, the_output, **arguments)
    if first:
        inner = optimizer
        while hasattr(inner, "inner_optimizer"):
            inner = inner.inner_optimizer
        inner.iterations.assign(first)
    seen = Rates()
    model.fit(np.ones((steps, 1), "float32"), np.zeros((steps, 1), "float32"), batch_size=1, verbose=0, callbacks=[seen])
    return model, seen


def course(schedule, steps):
    return np.array([float(ops.convert_to_numpy(schedule(int(step)))) for step in steps])


@pytest.mark.parametrize(("name", "jit"), [*((name, keras.backend.backend() != "torch") for name in MAKE), ("nested", "auto")])
def test_each_step_of_fit_takes_its_rate(name, jit):
    _, seen = fitted(keras.optimizers.SGD(MAKE[name]()), jit_compile=jit)
    wanted = course(MAKE[name](), range(12))
    assert len(set(wanted)) > 3
    np.testing.assert_array_equal(seen.rates, wanted)
    # The gradient is 1. A weight below 1 is rounded to 2**-24.
    np.testing.assert_allclose(-np.diff(seen.weights), wanted, rtol=1e-6, atol=2**-24)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_inside_every_optimizer(kind):
    _, seen = fitted(OPTIMIZERS[kind](Warmup(CyclicalLearningRate(0.01, 0.05, 3), 2)))
    np.testing.assert_array_equal(seen.rates, course(Warmup(CyclicalLearningRate(0.01, 0.05, 3), 2), range(12)))
    assert (np.diff(seen.weights)[1:] < 0).all()
    assert seen.weights[1] == seen.weights[0] == 0  # the rate of the first step is 0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model, seen = fitted(optimizers.GradientClipping(optimizers.SGD(OneCycle(0.05, 12)), threshold=1e6))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    np.testing.assert_array_equal(seen.rates, course(OneCycle(0.05, 12), range(12)))
    np.testing.assert_allclose(-np.diff(seen.weights), seen.rates, rtol=1e-6, atol=2**-24)


def test_a_training_that_goes_on_at_a_step_that_float32_does_not_have():
    first = 2**24 + 1
    _, seen = fitted(keras.optimizers.SGD(CyclicalLearningRate(0.01, 0.05, 3)), first=first)
    position = (first + np.arange(12)) % 6
    wanted = 0.01 + 0.04 * (1 - np.abs(position - 3) / 3)
    np.testing.assert_allclose(seen.rates, wanted, rtol=4e-7)
    np.testing.assert_allclose(-np.diff(seen.weights), wanted, rtol=1e-6, atol=2**-24)


@every_schedule
def test_config_copies_and_names(name):
    schedule = MAKE[name]()
    config = schedule.get_config()
    assert set(config) == set(inspect.signature(type(schedule)).parameters)
    saved = json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    assert saved["registered_name"] == f"keras_ext>{type(schedule).__name__}"
    for again in (
        type(schedule).from_config(json.loads(json.dumps(config))),
        keras.optimizers.schedules.deserialize(saved),
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
    ):
        assert type(again) is type(schedule)
        assert json.dumps(again.get_config()) == json.dumps(config)
        np.testing.assert_array_equal(course(again, range(15)), course(schedule, range(15)))


LOAD = """
import json, sys
from pathlib import Path
import keras, keras_ext

for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    optimizer = keras.models.load_model(path).optimizer
    config = optimizer.get_config()
    while "learning_rate" not in config:
        config = (config.get("optimizer") or config["inner_optimizer"])["config"]
    print(json.dumps([path.stem, config["learning_rate"], int(optimizer.iterations.numpy()), float(optimizer.learning_rate)]))
"""


def test_a_model_saved_in_training_goes_on_at_its_rate_in_another_process(tmp_path, in_new_process):
    wanted = {}
    cases = [
        ("exp_range", keras.optimizers.SGD(MAKE["exp_range"]()), "float32"),
        ("clipped", optimizers.GradientClipping(optimizers.Adam(MAKE["nested"]())), "float32"),
        # Written out: where Keras puts it around by itself, it is in the file only as the policy.
        ("mixed", keras.optimizers.LossScaleOptimizer(optimizers.Adam(MAKE["one cycle"]())), "mixed_float16"),
    ]
    for name, optimizer, policy in cases:
        keras.config.set_dtype_policy(policy)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        model.fit(np.full((5, 1), 0.01), np.zeros((5, 1)), batch_size=1, verbose=0)  # no overflow in float16
        model.save(tmp_path / f"{name}.keras")
        schedule = MAKE[{"clipped": "nested", "mixed": "one cycle"}.get(name, name)]()
        wanted[name] = [keras.saving.serialize_keras_object(schedule), 5, course(schedule, [5])[0]]
    loaded = [json.loads(line) for line in in_new_process(LOAD, tmp_path).splitlines() if line.startswith("[")]
    assert {name: values for name, *values in loaded} == json.loads(json.dumps(wanted))


@every_schedule
def test_the_picture_shows_the_course(name, tmp_path):
    schedule = MAKE[name]()
    figure = schedule.plot(40, tmp_path / "new" / "rates.png")
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(40))
    np.testing.assert_array_equal(line.get_ydata(), course(schedule, range(40)))
    assert (tmp_path / "new" / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert schedule.plot(1).axes[0].lines[0].get_xdata().tolist() == [0]


def test_the_picture_of_many_steps_misses_no_bend():
    (line,) = Warmup(CyclicalLearningRate(0.0, 1.0, 3001), 777).plot(10_001).axes[0].lines
    assert {777, 777 + 3001, 777 + 6002, 777 + 9003} <= set(line.get_xdata())
    assert 500 <= len(line.get_xdata()) <= 504
    assert list(Warmup(OneCycle(1.0, 6001, 0.777), 13).turns(6014)) == [13, 13 + 4662, 13 + 6000]
    assert list(Warmup(OneCycle(1.0, 6001, 0.777), 13).turns(6013)) == [13, 13 + 4662]
    assert list(Warmup(0.1, 13).turns(13)) == []


def test_the_picture_of_very_many_cycles_still_shows_their_heights():
    class Line(Schedule):
        """In place of a schedule that takes its time."""

        turns = CyclicalLearningRate(0.0, 1.0, 10).turns

        def __call__(self, step):
            return np.abs((step // 10) % 2)

    x = Line().plot(20_000).axes[0].lines[0].get_xdata()
    assert len(x) <= 1500
    for part in np.split(x, range(300, 1200, 300)):
        assert min(np.sum(part % 20 == 0), np.sum(part % 20 == 10)) > 90


BIG = r"a whole number of at most 1073741824, got"
BAD = [
    (CyclicalLearningRate, (-0.1, 1.0, 5), "`min_learning_rate` must be a finite number of at least 0, got -0.1"),
    (CyclicalLearningRate, ("a", 1.0, 5), "`min_learning_rate` must be a finite number of at least 0, got 'a'"),
    (CyclicalLearningRate, (0.1, 0.1, 5), "`max_learning_rate` must be a finite number above 0.1, got 0.1"),
    (CyclicalLearningRate, (0.1, float("inf"), 5), "`max_learning_rate` must be a finite number above 0.1, got inf"),
    (CyclicalLearningRate, (0.1, float("nan"), 5), "`max_learning_rate` must be a finite number above 0.1, got nan"),
    (CyclicalLearningRate, (0.1, 1.0, 0), "`step_size` must be a whole number of at least 1, got 0"),
    (CyclicalLearningRate, (0.1, 1.0, 2.5), "`step_size` must be a whole number of at least 1, got 2.5"),
    (CyclicalLearningRate, (0.1, 1.0, 2**30 + 1), f"`step_size` must be {BIG} 1073741825"),
    (CyclicalLearningRate, (0.1, 1.0, 5, "square"), "`mode` must be one of 'triangular', 'triangular2', 'exp_range', got 'square'"),
    (CyclicalLearningRate, (0.1, 1.0, 5, "exp_range"), "`gamma` must be a number in (0, 1], got None. The paper takes about 0.99994."),
    (CyclicalLearningRate, (0.1, 1.0, 5, "exp_range", 1.1), "`gamma` must be a number in (0, 1], got 1.1"),
    (CyclicalLearningRate, (0.1, 1.0, 5, "triangular", 0.9), '`gamma` must be None with mode="triangular", got 0.9'),
    (OneCycle, (0.0, 10), "`max_learning_rate` must be a finite number above 0, got 0.0"),
    (OneCycle, (1.0, 2), "`total_steps` must be a whole number of at least 3, got 2"),
    (OneCycle, (1.0, 2**31), f"`total_steps` must be {BIG} 2147483648"),
    (OneCycle, (1.0, 10, 0.0), "`warmup_share` must be a number in (0, 1), got 0.0"),
    (OneCycle, (1.0, 10, 1.0), "`warmup_share` must be a number in (0, 1), got 1.0"),
    (OneCycle, (1.0, 10, 0.3, 0.5), "`start_divisor` must be a finite number of at least 1, got 0.5"),
    (OneCycle, (1.0, 10, 0.3, 25, 0), "`end_divisor` must be a finite number of at least 1, got 0"),
    (OneCycle, (1.0, 10, 0.3, 25, 100, "cos"), "`anneal` must be one of 'cosine', 'linear', got 'cos'"),
    (Warmup, (0.0, 5), "`learning_rate` must be a finite number above 0, got 0.0"),
    (Warmup, (0.1, 0), "`steps` must be a whole number of at least 1, got 0"),
    (Warmup, (0.1, True), "`steps` must be a whole number of at least 1, got True"),
    (Warmup, (0.1, 5, -1), "`start` must be a finite number of at least 0, got -1"),
    (Warmup, (0.1, 5, 0.2), "`start` must be at most the learning_rate, 0.1, got 0.2"),
    (Warmup, ("cosine", 5), "`learning_rate` must be a LearningRateSchedule or a number above 0, got 'cosine'"),
    (Warmup, (True, 5), "`learning_rate` must be a LearningRateSchedule or a number above 0, got True"),
    (Warmup, (OneCycle, 5), "Give OneCycle(...)."),
]


@pytest.mark.parametrize(("cls", "arguments", "message"), BAD)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        cls(*arguments)
    assert message in str(caught.value)


def test_a_picture_of_no_steps():
    with pytest.raises(ValueError, match="`steps` must be a whole number of at least 1, got 0"):
        OneCycle(1.0, 10).plot(0)


def test_every_public_schedule_is_tested_here():
    public = [
        thing
        for name in schedules.__all__
        if issubclass(thing := getattr(schedules, name), keras.optimizers.schedules.LearningRateSchedule)
    ]
    assert {type(make()) for make in MAKE.values()} | {Schedule} == set(public)
    assert all(issubclass(thing, Schedule) for thing in public)
