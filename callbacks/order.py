"""Which callbacks a fit calls before the monitor, so that they miss the numbers it logs at that epoch's end."""

import string
from collections.abc import Iterator, Sequence
from typing import Any

import keras

KEYS = ("saturation", "saturation_worst", "dead", "dead_worst", "gradient_ratio", "gradient_ratio_worst", "critical")
_LAYER_KEYS = ("saturation/", "dead/")
_TAKES_ALL = (
    keras.callbacks.CSVLogger,
    keras.callbacks.History,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


def missing_the_keys(before: Sequence[Any], per_layer: bool) -> list[str]:
    """Return those of the callbacks `before` the monitor that read its keys of `logs`, in words for a warning.

    Args:
        before: callbacks, in the order in which `fit` calls them.
        per_layer: whether the keys of single layers are logged.

    Examples:
        >>> stop = keras.callbacks.EarlyStopping(monitor="saturation", mode="min")
        >>> missing_the_keys([keras.callbacks.TerminateOnNaN(), stop, keras.callbacks.EarlyStopping()], per_layer=False)
        ["EarlyStopping(monitor='saturation')"]
    """
    told = []
    for callback in before:
        name = type(callback).__name__
        if isinstance(callback, _TAKES_ALL):
            told.append(name)
            continue
        for argument, key in _read_by(callback):
            if key in KEYS or (per_layer and key.startswith(_LAYER_KEYS)):
                told.append(f"{name}({argument}={key!r})" if argument == "monitor" else f"{name}({argument}=...{{{key}}}...)")
                break
    return told


def _read_by(callback: Any) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a callback that name a key of `logs`, and the key."""
    monitor = getattr(callback, "monitor", None)
    # A checkpoint of every epoch has a `monitor` that it does not read.
    if isinstance(monitor, str) and getattr(callback, "save_best_only", True):
        yield "monitor", monitor
    path = getattr(callback, "filepath", None)
    if isinstance(path, str):
        try:
            fields = list(string.Formatter().parse(path))
        except ValueError:
            return
        for _, key, _, _ in fields:
            if key:
                yield "filepath", key
