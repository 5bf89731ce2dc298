"""TensorFlow's registry of custom gradients, which holds every graph that one was traced in for ever."""

import contextlib
import types
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# What `tf.RegisterGradient` fills; there is no public way to take anything out of it.
from tensorflow.python.framework import ops

# How `tf.custom_gradient` names what it registers, with a number behind it.
_PREFIX = "CustomGradient-"
# Where an entry has its function, and where a graph is given it.
_FUNCTION, _OF_GRAPH = "type", "_keras_ext_custom_gradients"


def entries() -> dict[str, dict[str, Any]]:
    """Return the registry's entries by name; none where TensorFlow keeps them elsewhere, which then goes on as it is."""
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def let_go() -> None:
    """Let each traced custom gradient live as long as the graphs that it belongs to, no longer.

    `tf.custom_gradient` registers, whenever a call of it is traced, a function that closes over tensors of the graph, and nothing takes
    it away again. Keras's optimizers sum the gradients of all replicas by one: the training graph of every model that was ever trained
    stays in memory, 35,000 objects for seven dense layers, through all of which Python's garbage collector goes again and again.
    """
    registered = entries()
    # The names alone first: while it runs, the collector may take entries away.
    for name in [name for name in list(registered) if name.startswith(_PREFIX)]:
        entry = registered.get(name)
        if entry and isinstance(entry[_FUNCTION], types.FunctionType) and (graphs := _graphs_of(entry[_FUNCTION])):
            _tie(name, entry, graphs)


def _tie(name: str, entry: dict[str, Any], graphs: list[tf.Graph]) -> None:
    """Give the function of an entry to its graphs; the registry keeps a reference that does not hold it, until it is gone."""
    function = entry[_FUNCTION]
    for graph in graphs:
        if not hasattr(graph, _OF_GRAPH):
            setattr(graph, _OF_GRAPH, [])
        getattr(graph, _OF_GRAPH).append(function)
    reference = weakref.ref(function, lambda _: entries().pop(name, None))
    entry[_FUNCTION] = _Referred(reference)


class _Referred:
    """Stands for a registered function in the registry."""

    def __init__(self, function: weakref.ref[Any]) -> None:
        self._function = function

    def __call__(self, op: Any, *gradients: Any) -> Any:
        """Return what the function returns: as long as the graph of `op` is there, it is."""
        if (function := self._function()) is None:
            raise LookupError(f"The custom gradient of {op.name} belongs to a graph that is gone.")
        return function(op, *gradients)


def _graphs_of(function: Any) -> list[tf.Graph]:
    """Return the graphs of the tensors that a function and the functions within it close over."""
    graphs: dict[int, tf.Graph] = {}
    seen: set[int] = set()
    todo = [function]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, tf.Tensor):
            if tf.is_symbolic_tensor(value):
                graphs[id(value.graph)] = value.graph
        else:
            todo += _held(value)
    return list(graphs.values())


def _held(value: Any) -> Iterator[Any]:
    """Yield what a function closes over, and what is in a list or tuple."""
    if isinstance(value, (list, tuple)):
        yield from value
    for cell in getattr(value, "__closure__", None) or ():
        # A cell may be empty still.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
