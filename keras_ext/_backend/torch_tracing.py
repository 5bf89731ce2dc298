"""Traces of steps on PyTorch: of Python's code, the kernels alone are left."""

import contextlib
import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from keras import StatelessScope, layers, tree
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from keras_ext._backend import keras_private, torch_random

_stacking = False


def is_stacking() -> bool:
    """Return whether a step is being traced in which each tensor stands for one of several models."""
    return _stacking


@contextlib.contextmanager
def stacking() -> Iterator[None]:
    """Return a context in which `is_stacking`."""
    global _stacking
    _stacking = True
    try:
        yield
    finally:
        _stacking = False


def cond_of_both(condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any], variables: Sequence[Any]) -> Any:
    """Return what one of two functions returns, and let `variables` have the values that it leaves them with; both are traced."""
    results = []
    for function in (if_true, if_false):
        # Copies, as Keras's optimizers change some of them in place.
        with StatelessScope(state_mapping=[(v, v.value.clone()) for v in variables]) as scope:
            results.append((function(), [scope.get_current_value(v) for v in variables]))
    result, values = tree.map_structure(lambda a, b: None if a is None else torch.where(condition, a, b), *results)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return result


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that traces `function` when it is first called, and calls what was traced; or `function` where that fails."""
    program: Any = None

    def run(*arguments: Any) -> Any:
        nonlocal program
        if program is None:
            try:
                with stacking(), Traceable():
                    program = make_fx(function)(*arguments)
            except Exception:
                program = _with_numbers(function)
        return program(*arguments)

    return run


def _with_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        with Traceable():
            return function(*arguments)

    return run


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda first, *others: first.copy_(function(first, *others))


def scalars(values: Any) -> list[Any]:
    """Return the values of a vector as scalars that widen no dtype, as Python's floats do."""
    return list(values.unbind())


_number: Any = ()


def register_number(cls: Any) -> None:
    """Let PyTorch's functions take objects of a class, which have a `tensor`, while a step is traced."""
    global _number
    _number = cls


# `x += y` in Keras's code, which calls these methods by name for their results alone.
_IN_PLACE = {"add_": torch.add, "sub_": torch.sub, "mul_": torch.mul, "div_": torch.div}


class Traceable(TorchFunctionMode):
    """Calls PyTorch's functions with what `vmap` has rules for: tensors for numbers, and one tensor after another of a list."""

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        parts = [] if model is None else [*keras_private.flatten_layers(model), *tree.flatten(keras_private.compile_arguments(model))]
        modules = [each.__module__ if hasattr(each, "__name__") else type(each).__module__ for each in parts]
        self._of_models = model is not None
        self._is_kerass = model is not None and all(m.startswith(("keras.", "keras_ext.", "builtins")) for m in modules)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree.map_structure(lambda a: a.tensor if isinstance(a, _number) else a, (args, kwargs or {}))
        name = getattr(func, "__name__", "")
        if func is torch.nn.functional.dropout and self._of_models:
            return torch_random.dropout(args[0], kwargs["p"])
        if func in (torch.as_tensor, torch.tensor) and isinstance(args[0], torch.Tensor):
            return args[0].to(kwargs.get("dtype") or torch.float32)
        if self._is_kerass and name in _IN_PLACE:  # a tensor of all models cannot become one of each
            return _IN_PLACE[name](*args)
        if not name.startswith("_foreach_"):
            return func(*args, **kwargs)
        name = name.removeprefix("_foreach_")
        one = getattr(torch, name, None) or getattr(torch.Tensor, name, None) or _in_place(getattr(torch, name.removesuffix("_")))

        def of(value: Any, i: int) -> Any:
            return value[i] if isinstance(value, list | tuple) else value

        alpha = kwargs.get("alpha")
        if isinstance(alpha, torch.Tensor):  # PyTorch would ask it for a number
            args, kwargs = (args[0], [of(args[1], i) * alpha for i in range(len(args[0]))]), {}
        return [one(*(of(a, i) for a in args), **{k: of(v, i) for k, v in kwargs.items()}) for i in range(len(args[0]))]


class PythonState:
    """The state that Python keeps beside the tensors of a model, which a trace must leave as it is.

    It is the state of the random generators, and the attributes of layers, losses, metrics and optimizers of the user's own.
    """

    def __init__(self, model: Any) -> None:
        of_keras = vars(layers.Identity()).keys() - {"_buffers"}
        parts = [*keras_private.flatten_layers(model), *tree.flatten(keras_private.compile_arguments(model))]
        own = [each for each in parts if hasattr(each, "__dict__") and not type(each).__module__.startswith(("keras.", "builtins"))]
        self._attributes = [
            (each, name, value, copy.copy(value) if isinstance(value, dict | list | set) else None)
            for each in own
            for name, value in vars(each).items()
            if name not in of_keras
        ]
        self._random = np.random.get_state(), random.getstate()

    def restore(self) -> str:
        """Bring everything back, and return the name of one thing that had changed."""
        changed = ""
        for each, name, value, content in self._attributes:
            now = vars(each).get(name)
            if now is not value or (content is not None and _differs(value, content)):
                changed = f"{type(each).__name__}.{name}"
                vars(each)[name] = value if content is None else content
        if str(np.random.get_state()) != str(self._random[0]) or random.getstate() != self._random[1]:
            changed = changed or "the state of NumPy's or Python's random generator"
        np.random.set_state(self._random[0])
        random.setstate(self._random[1])
        return changed


def _differs(now: Any, before: Any) -> bool:
    if isinstance(now, set):
        return now != before
    one, other = (list(each.items()) if isinstance(each, dict) else [(i, v) for i, v in enumerate(each)] for each in (now, before))
    return len(one) != len(other) or any(a[0] != b[0] or a[1] is not b[1] for a, b in zip(one, other, strict=True))
