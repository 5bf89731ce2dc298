"""TensorFlow's registry of custom gradients, which holds every graph that one was traced in for ever."""

import contextlib
import threading
import types
import weakref
from typing import Any

import tensorflow as tf

# What `tf.RegisterGradient` fills; there is no public way to take anything out of it.
from tensorflow.python.framework import ops

# How `tf.custom_gradient` names what it registers, with a number behind it.
_PREFIX = "CustomGradient-"
# Where an entry has its function, and where a graph is given it.
_FUNCTION, _OF_GRAPH = "type", "_keras_ext_custom_gradients"
_lock = threading.Lock()


def entries() -> dict[str, dict[str, Any]]:
    """Return the registry's entries by name; none where TensorFlow keeps them elsewhere, which then goes on as it is."""
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def let_go() -> None:
    """Let each traced custom gradient live as long as the graphs that it belongs to, no longer.

    `tf.custom_gradient` registers, whenever a call of it is traced, a function that closes over tensors of the graph, and nothing takes
    it away again. Keras's optimizers sum the gradients of all replicas by one: the training graph of every model that was ever trained
    stays in memory, 35,000 objects for seven dense layers, through all of which Python's garbage collector goes again and again.

    A copy of a graph (`tf.import_graph_def`) has no gradient of such a call any more once the original is gone, as in another process.
    """
    registered = entries()
    with _lock:
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
        """Return what the function returns, which lives as long as the graph that it was traced in."""
        if (function := self._function()) is None:
            raise LookupError(f"The custom gradient of {op.name} belongs to a graph that is gone.")
        return function(op, *gradients)


def _graphs_of(function: types.FunctionType) -> list[tf.Graph]:
    """Return the graphs of the tensors that `tf.custom_gradient` closes over: in what it registers, or in the function that this calls."""
    held = _closed_over(function)
    held += [value for inner in held if isinstance(inner, types.FunctionType) for value in _closed_over(inner)]
    tensors = [t for t in tf.nest.flatten(held, expand_composites=True) if isinstance(t, tf.Tensor) and tf.is_symbolic_tensor(t)]
    return list({id(t.graph): t.graph for t in tensors}.values())


def _closed_over(function: types.FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        # A cell may be empty still.
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found
