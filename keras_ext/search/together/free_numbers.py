"""The numbers that a compiled step reads as inputs, so that trials which differ in them share it: rates, momentums, strengths, bounds."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ext import _backend, layers, optimizers, schedules
from keras_ext._backend import keras_private
from keras_ext.optimizers.clipping_rules import RULES
from keras_ext.search.together.input_number import InputNumber

# Open intervals. A number outside its own is part of the structure, as the code may branch on it: at 0 there is no momentum.
_POSITIVE = (0.0, math.inf)
_SHARE = (0.0, 1.0)
# Below .1 our Adam and RMSprop choose another kernel on TensorFlow.
_BETA = (0.1, 1.0)


def _of(interval: tuple[float, float], names: str) -> dict[str, tuple[float, float]]:
    return dict.fromkeys(names.split(), interval)


_ANY_OPTIMIZER = _of(_POSITIVE, "weight_decay clipnorm global_clipnorm clipvalue")
_MOMENTS = _of(_SHARE, "beta_1 beta_2") | _of(_POSITIVE, "epsilon")
_RMSPROP = _of(_SHARE, "momentum") | _of(_POSITIVE, "epsilon")
_OPTIMIZERS: dict[type, dict[str, tuple[float, float]]] = {
    optimizers.SGD: _of(_SHARE, "momentum"),
    optimizers.Adam: _of(_BETA, "beta_1 beta_2") | _of(_POSITIVE, "epsilon"),
    optimizers.RMSprop: _of(_BETA, "rho") | _RMSPROP,
    optimizers.Adagrad: _of(_POSITIVE, "epsilon"),
    keras.optimizers.SGD: _of(_SHARE, "momentum"),
    **dict.fromkeys((keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.Adamax, keras.optimizers.Nadam), _MOMENTS),
    keras.optimizers.Lamb: _MOMENTS,
    keras.optimizers.Lion: _of(_SHARE, "beta_1 beta_2"),
    keras.optimizers.RMSprop: _of(_SHARE, "rho") | _RMSPROP,
    keras.optimizers.Adagrad: _of(_POSITIVE, "epsilon"),
    keras.optimizers.Adadelta: _of(_SHARE, "rho") | _of(_POSITIVE, "epsilon"),
}
_OPTIMIZERS = {cls: {**names, **_ANY_OPTIMIZER} for cls, names in _OPTIMIZERS.items()}
_K = keras.optimizers.schedules
# Steps at which a rate jumps are not free: XLA rounds a division by a constant otherwise, and the jump may come a step later.
_OTHERS: dict[type, dict[str, tuple[float, float]]] = {
    optimizers.GradientClipping: _of(_POSITIVE, "threshold"),
    _K.ExponentialDecay: _of(_POSITIVE, "initial_learning_rate decay_steps decay_rate"),
    _K.InverseTimeDecay: _of(_POSITIVE, "initial_learning_rate decay_steps decay_rate"),
    _K.PolynomialDecay: _of(_POSITIVE, "initial_learning_rate end_learning_rate power"),
    _K.CosineDecay: _of(_POSITIVE, "initial_learning_rate decay_steps alpha warmup_target warmup_steps"),
    _K.CosineDecayRestarts: _of(_POSITIVE, "initial_learning_rate _m_mul alpha"),
    schedules.OneCycle: _of(_POSITIVE, "max_learning_rate start_divisor end_divisor"),
    schedules.CyclicalLearningRate: _of(_POSITIVE, "min_learning_rate max_learning_rate"),
    schedules.Warmup: _of(_POSITIVE, "learning_rate start"),
    keras.regularizers.L1: _of(_POSITIVE, "l1"),
    keras.regularizers.L2: _of(_POSITIVE, "l2"),
    keras.regularizers.L1L2: _of(_POSITIVE, "l1 l2"),
    layers.BatchNormalization: _of(_SHARE, "momentum"),
    keras.layers.BatchNormalization: _of(_SHARE, "momentum") | _of(_POSITIVE, "epsilon"),
    keras.layers.GaussianNoise: _of(_POSITIVE, "stddev"),
}
_D = keras.layers
if keras.backend.backend() == "torch":
    # There Keras's layers draw with rates that are numbers. The rates of ours decide about the mask's bytes at 1/32 and 31/32.
    _OURS = (layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D)
    _OTHERS |= dict.fromkeys(_OURS, _of((1 / 32, 31 / 32), "_rate"))
else:
    _KERAS = (_D.Dropout, _D.SpatialDropout1D, _D.SpatialDropout2D, _D.SpatialDropout3D)
    _OTHERS |= dict.fromkeys(_KERAS, _of(_SHARE, "rate"))
_L = keras.losses
_SMOOTHED = (_L.BinaryCrossentropy, _L.CategoricalCrossentropy, _L.BinaryFocalCrossentropy, _L.CategoricalFocalCrossentropy)
_OTHERS |= dict.fromkeys(_SMOOTHED, _of(_SHARE, "label_smoothing")) | {_L.Huber: _of(_POSITIVE, "delta")}
# Keras casts these to the rate's dtype. Any other integer would become an integer tensor.
_MAY_BE_WHOLE = ("decay_steps", "warmup_steps")
_NEUTRAL = 0.5


@dataclass(frozen=True)
class FreeNumber:
    """A number that trials may differ in, and the dictionaries and keys in which the code finds it."""

    label: str
    places: list[tuple[Any, Any]]
    interval: tuple[float, float]

    @property
    def value(self) -> Any:
        """The number as its object holds it."""
        holder, key = self.places[0]
        return holder[key]

    def put(self, value: Any) -> None:
        """Let the code find `value`."""
        for holder, key in self.places:
            holder[key] = value


def free_numbers(model: Any, inner: Sequence[Any]) -> list[FreeNumber]:
    """Return the free numbers of a compiled model, whose layers are `inner`, in an order that its structure decides."""
    if "float64" in {keras.config.floatx(), *(keras.backend.standardize_dtype(v.dtype) for v in model.variables)}:
        return []  # an input is a float32
    holders: dict[int, Any] = {}
    # A layer of the user's own may compute with the numbers of the layers in it what only floats can.
    if not has_own_layers(inner):
        for layer in inner:
            holders |= {id(each): each for each in (layer, *vars(layer).values()) if type(each) in _OTHERS}
    losses = keras.tree.flatten(keras_private.compile_arguments(model).get("loss"))
    holders |= {id(each): each for each in (*losses, *_optimizers_in(model.optimizer))}
    return [number for holder in holders.values() for number in _numbers_of(holder)]


def has_own_layers(layers: Iterable[Any]) -> bool:
    """Return whether one of the layers is of a class of the user's own."""
    return not all(type(layer).__module__.startswith(("keras.", "keras_ext.")) for layer in layers)


def _optimizers_in(optimizer: Any) -> Iterator[Any]:
    yield optimizer
    for inner in (getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())):
        if inner is not None:
            yield from _optimizers_in(inner)
    rate = keras_private.rate_of(optimizer)
    while isinstance(rate, _K.LearningRateSchedule):
        yield rate
        rate = getattr(rate, "learning_rate", None)


def _known_class(holder: Any) -> Any:
    """Return the class of an object; on PyTorch, of Keras's optimizers, the one that a user names."""
    cls = type(holder)
    return next((each for each in cls.__mro__ if each in _OPTIMIZERS), cls) if cls.__module__.startswith("keras.src.backend.") else cls


def _numbers_of(holder: Any) -> Iterator[FreeNumber]:
    dictionaries = [vars(holder)] if hasattr(holder, "__dict__") else []
    if type(holder) is optimizers.GradientClipping:
        # The rule, whose class says whether it computes with its threshold alone; the other attribute is for the config.
        rule = vars(holder)["_rule"]
        if type(rule) not in RULES.values():
            return
        dictionaries = [vars(rule), *dictionaries]
    elif isinstance(holder, keras.Loss):
        dictionaries += keras_private.arguments_of_loss(holder)
    if type(holder) is _K.PiecewiseConstantDecay and isinstance(holder.values, list):
        for i, value in enumerate(holder.values):
            if isinstance(value, float) and value > 0:
                yield FreeNumber(f"PiecewiseConstantDecay.{i}", [(holder.values, i)], _POSITIVE)
    for name, interval in {**_OTHERS, **_OPTIMIZERS}.get(_known_class(holder), {}).items():
        if name == "decay_steps" and getattr(holder, "staircase", False):
            continue
        places = [(each, name) for each in dictionaries if name in each]
        kinds = (float, int) if name in _MAY_BE_WHOLE else (float,)
        value: Any = places[0][0][name] if places else None
        # L1 keeps its strength as a tensor.
        # NumPy's floats are Python's; a bool is no number.
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if (is_number or (name == "l1" and value is not None)) and interval[0] < float(value) < interval[1]:
            kind = type(holder)
            is_whole = "whole" if isinstance(value, int) else ""
            yield FreeNumber(f"{kind.__module__}.{kind.__name__}.{name} {is_whole}", places, interval)


@contextmanager
def hidden(numbers: Sequence[FreeNumber]) -> Iterator[None]:
    """Let configs show one and the same number for each of `numbers` while the block runs."""
    with _replaced(numbers, [_NEUTRAL] * len(numbers)):
        yield


@contextmanager
def _replaced(numbers: Sequence[FreeNumber], values: Sequence[Any]) -> Iterator[None]:
    kept = [number.value for number in numbers]
    try:
        for number, value in zip(numbers, values, strict=True):
            number.put(value)
        yield
    finally:
        for number, value in zip(numbers, kept, strict=True):
            number.put(value)


class InputNumbers:
    """The free numbers of one model, and a variable of the model that holds them for its compiled steps.

    The variable has each number and what it lacks to 1, both rounded once: in float32, 1 - .999 is a hundred-thousandth off.
    """

    def __init__(self, model: Any, numbers: list[FreeNumber]) -> None:
        self._model, self.numbers = model, numbers
        # In a holder with the attribute of a seed generator, whose state is among a model's variables and not among its weights.
        self.state = keras.Variable(np.zeros(2 * len(numbers)), dtype="float32", trainable=False, autocast=False, name="numbers")

    def refresh(self, numbers: list[FreeNumber]) -> None:
        """Take over the values of `numbers`, the model's now."""
        self.numbers = numbers
        values = [float(number.value) for number in numbers]
        self.state.assign(np.array([[value, 1 - value] for value in values]).reshape(-1))

    @contextmanager
    def traced(self, values: Any = None) -> Iterator[None]:
        """Let code that is traced while the block runs read the numbers from `values`, those of the variable, or from the variable."""
        scalars = _backend.step_programs().scalars(self.state.value if values is None else values)
        pairs = zip(self.numbers, scalars[::2], scalars[1::2], strict=True)
        with _replaced(self.numbers, [InputNumber(value, rest, number.interval) for number, value, rest in pairs]):
            yield

    @contextmanager
    def lent_to(self, other: "InputNumbers") -> Iterator[None]:
        """Let the model have the numbers of another one of its structure while the block runs; its steps read them from the variable."""
        model = self._model
        steps = {name: getattr(model, name) for name in ("train_step", "test_step", "predict_step")}
        with _replaced(self.numbers, [number.value for number in other.numbers]):
            try:
                for name, step in steps.items():
                    setattr(model, name, self.reading(step))
                yield
            finally:
                for name in steps:
                    delattr(model, name)
                # A callback may have changed them.
                now = [number.value for number in self.numbers]
        for number, value in zip(other.numbers, now, strict=True):
            number.put(value)

    def reading(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step that reads the numbers of the model whose state it is given, or which the model has borrowed."""

        def reading(*arguments: Any) -> Any:
            values = None
            if len(arguments) > 1:  # the variables' values are an argument, but on TensorFlow
                place = next(i for i, v in enumerate(self._model.non_trainable_variables) if v is self.state)
                values = arguments[0][1][place]
            with self.traced(values):
                return step(*arguments)

        return reading


def input_numbers(model: Any) -> InputNumbers:
    """Return the numbers of a built, compiled model as its steps are to read them; the variable is the model's from the first time on."""
    numbers = free_numbers(model, list(keras_private.flatten_layers(model)))
    held = keras_private.held_states(model)
    inputs = next((each for each in held if isinstance(each, InputNumbers) and len(each.numbers) == len(numbers)), None)
    if inputs is None:
        held[:] = [each for each in held if not isinstance(each, InputNumbers)]
        inputs = InputNumbers(model, numbers)
        held.append(inputs)
    inputs.refresh(numbers)
    return inputs
