"""Layer-sequential unit variance (Mishkin and Matas 2016): kernels scaled by what the layers give on a batch."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext._backend import keras_private
from keras_ext.initializers._weights import Weight

# The paper's: how far the variance may be from 1, and how often it tries.
_TOLERANCE, _TRIES = 0.1, 10


def scale_to_unit_variance(model: Any, weights: list[Weight], data: Any) -> list[tuple[Any, str]]:
    """Scale the kernels so that each layer's sums over the batch have variance 1; return what could not be, as (variable, note).

    One forward pass does it: each layer is scaled when the pass reaches it, before the next layers see its output. Of a layer with two
    kernels the last is scaled.
    """
    layers = list(keras_private.flatten_layers(model))
    # A recurrent layer runs its cell inside a loop of the framework, where no number can be read.
    in_loops = {id(part) for layer in layers if isinstance(layer, keras.layers.RNN) for part in keras_private.flatten_layers(layer)}
    last = {id(weight.layer): weight for weight in weights if id(weight.layer) not in in_loops}
    notes = {id(w.variable): (w.variable, "not scaled: the forward pass did not reach it") for w in last.values()}
    with contextlib.ExitStack() as stack:
        # So does TimeDistributed; all times at once come to the same.
        for layer in layers:
            if isinstance(layer, keras.layers.TimeDistributed):
                stack.enter_context(_calling(layer, _all_times_at_once(layer)))
        for weight in last.values():
            stack.enter_context(_calling(weight.layer, _scaling(weight, notes)))
        model(data, training=False)
    return [*notes.values(), *((w.variable, "not scaled: inside a recurrent layer") for w in weights if id(w.layer) in in_loops)]


@contextlib.contextmanager
def _calling(layer: Any, call: Callable[..., Any]) -> Iterator[None]:
    """Have `layer` do `call` until the block ends."""
    # On the instance, over the method of its class.
    layer.call = call
    try:
        yield
    finally:
        del layer.call


def _scaling(weight: Weight, notes: dict[int, tuple[Any, str]]) -> Callable[..., Any]:
    """Return the call of the weight's layer that at first also scales the weight, and keeps a note of why it could not."""
    call, kernel, waiting = weight.layer.call, weight.variable, [True]

    def scaling(*args: Any, **kwargs: Any) -> Any:
        if waiting:
            waiting.clear()
            del notes[id(kernel)]
            with _linear(weight.layer):
                note = _scale(kernel, lambda: call(*args, **kwargs))
            if note:
                notes[id(kernel)] = kernel, note
        return call(*args, **kwargs)

    return scaling


def _all_times_at_once(wrapper: Any) -> Callable[..., Any]:
    """Return a call of a TimeDistributed that hands its layer the times as further samples."""

    def call(inputs: Any, **_: Any) -> Any:
        samples, times = inputs.shape[:2]
        outputs = wrapper.layer(ops.reshape(inputs, (-1, *inputs.shape[2:])))
        return tree.map_structure(lambda y: ops.reshape(y, (samples, times, *y.shape[1:])), outputs)

    return call


def _scale(kernel: Any, sums: Callable[[], Any]) -> str:
    """Divide `kernel` until `sums` has variance 1; return why that cannot be, or nothing."""
    variance = float("nan")
    for _ in range(_TRIES):
        variance = float(np.var(ops.convert_to_numpy(ops.cast(sums(), "float32")), dtype="float64"))
        if abs(variance - 1) <= _TOLERANCE:
            return ""
        if not 0 < variance < float("inf"):
            return f"not scaled: its output has variance {variance:g}"
        with keras_private.without_autocast():
            kernel.assign(ops.cast(ops.cast(kernel, "float32") / variance**0.5, kernel.dtype))
    return f"its output has variance {variance:.3g} after {_TRIES} tries: its bias or masks weigh more than it"


@contextlib.contextmanager
def _linear(layer: Any) -> Iterator[None]:
    """Take the layer's activation away until the block ends."""
    if not hasattr(layer, "activation"):
        yield
        return
    kept, layer.activation = layer.activation, keras.activations.linear
    try:
        yield
    finally:
        layer.activation = kept
