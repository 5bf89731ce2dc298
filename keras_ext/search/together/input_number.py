"""A number that stands where a Python float stood, and is an input of the step that is traced."""

import math
import operator
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_ext import _backend

_ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv, "pow": operator.pow}
_COMPARISONS = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne}


# On TensorFlow, Keras asks whether a number is a float before it combines dtypes, and PyTorch's functions ask, too; JAX makes a constant of
# whatever is a float.
_Base: Any = object if keras.backend.backend() == "jax" else float


class InputNumber(_Base):
    """A scalar tensor for Keras's code, which takes it for a float: a number that widens no dtype.

    But on JAX its value as a float is NaN: code that compiled it as a constant would give NaN, and no number that looks right.

    Args:
        tensor: the number.
        rest: what it lacks to 1; None to compute it from `tensor`.
        interval: two bounds between which the number lies. Comparisons with them and with what is outside have one result for every trial.
    """

    __hash__ = object.__hash__

    def __new__(cls, *_: Any) -> "InputNumber":
        """Return a NaN, where it is a float."""
        return super().__new__(cls, *([math.nan] if _Base is float else []))

    def __init__(self, tensor: Any, rest: Any = None, interval: tuple[float, float] = (-math.inf, math.inf)) -> None:
        self.tensor, self.rest, self.interval = tensor, rest, interval
        # Keras asks for it, and combines a Python float with the other dtype. JAX's tensor is weak by itself.
        self.dtype = float if _Base is float else getattr(tensor, "dtype", None)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        """Return the tensor in the dtype that TensorFlow asks for."""
        return self.tensor if dtype is None else ops.cast(self.tensor, dtype)

    def __jax_array__(self) -> Any:
        """Return the tensor, whose dtype JAX takes for weak."""
        return self.tensor

    def __float__(self) -> float:
        """Refuse: the number is not known yet."""
        raise TypeError("A number that trials may differ in is an input of the step, and has no value while the step is traced.")

    def __bool__(self) -> bool:
        """Return whether it is not 0."""
        return self != 0

    def __neg__(self) -> "InputNumber":
        """Return its negative."""
        return InputNumber(-self.tensor)

    def _with(self, function: Callable[[Any, Any], Any], other: Any, is_right: bool) -> Any:
        if isinstance(other, int | float | InputNumber):
            value = other.tensor if isinstance(other, InputNumber) else other
            if function is operator.sub and is_right and value is other and other == 1 and self.rest is not None:
                low, high = self.interval
                return InputNumber(self.rest, self.tensor, (1 - high, 1 - low))
            return InputNumber(function(value, self.tensor) if is_right else function(self.tensor, value))
        other = ops.convert_to_tensor(other)
        dtype = keras.backend.standardize_dtype(other.dtype)
        tensor = ops.cast(self.tensor, dtype) if keras.backend.is_float_dtype(dtype) else self.tensor
        return function(other, tensor) if is_right else function(tensor, other)

    def _compared(self, function: Callable[[Any, Any], Any], other: Any) -> Any:
        if not isinstance(other, int | float | InputNumber):
            return self._with(function, other, False) if hasattr(other, "dtype") else NotImplemented
        low, high = self.interval
        if isinstance(other, InputNumber) or low < other < high:
            raise TypeError(f"Code branches on whether a number is {other}, and trials that share the step may differ in that.")
        return function(1 if other <= low else -1, 0)


def _arithmetic(function: Callable[[Any, Any], Any], is_right: bool) -> Any:
    return lambda self, other: self._with(function, other, is_right)


def _comparison(function: Callable[[Any, Any], Any]) -> Any:
    return lambda self, other: self._compared(function, other)


for _name, _function in _ARITHMETIC.items():
    setattr(InputNumber, f"__{_name}__", _arithmetic(_function, False))
    setattr(InputNumber, f"__r{_name}__", _arithmetic(_function, True))
for _name, _function in _COMPARISONS.items():
    setattr(InputNumber, f"__{_name}__", _comparison(_function))

_backend.step_programs().register_number(InputNumber)
