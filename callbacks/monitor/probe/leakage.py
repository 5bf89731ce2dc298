"""Whether a network of sequences is given the tokens that it is to predict."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext.callbacks.monitor.probe.untouched import as_fit_does

# Samples whose last token is changed.
_SAMPLES = 4
# Share of the places at which two sequences must have the same tokens to be one, and to be another one.
_SAME, _OTHER = 0.99, 0.9
# Fewer different tokens are alike by chance, or are no tokens; so are sequences of fewer places.
_LEAST_TOKENS = 3
# What changes by less than this share of the largest output is rounding.
_ROUNDING = 1e-4
_LEAST_PLACES = 3
LATER, OWN = "later", "own"


def leak_of(model: Any, x: Any, y: Any) -> str | None:
    """Return what an output depends on that it must not know; empty for nothing, None where the outputs depend on no token yet.

    `LATER`: the targets are the next tokens of an input, and an output depends on later tokens than its own. `OWN`: the targets are the
    tokens of an input, place by place, and an output depends on no later token than its own: it can copy. Where it depends on later ones,
    as in an autoencoder, it has more to do than that.

    The last token of some samples is changed, and the outputs before it are compared.
    """
    places = [(place, kind) for place, tokens in enumerate(tree.flatten(x)) if (kind := _aligned(tokens, y))]
    for place, kind in places:
        changes = _changes(model, x, place)
        if changes is None:
            continue
        if not changes.any():
            return None
        if (kind == LATER and changes[:-1].any()) or (kind == OWN and not changes[:-1].any()):
            return kind
    return ""


def _aligned(tokens: Any, y: Any) -> str:
    """Return how the targets are aligned with an input's tokens; empty if they are not."""
    if not (_are_whole(tokens) and _are_whole(y) and tokens.ndim == 2 and tokens.shape[1] >= _LEAST_PLACES):
        return ""
    targets = y[..., 0] if y.ndim == 3 and y.shape[-1] == 1 else y
    if targets.shape != tokens.shape or len(np.unique(tokens)) < _LEAST_TOKENS:
        return ""
    alike = float((targets == tokens).mean())
    if alike >= _SAME:
        return OWN
    return LATER if alike < _OTHER and (targets[:, :-1] == tokens[:, 1:]).mean() >= _SAME else ""


def _are_whole(a: Any) -> bool:
    return isinstance(a, np.ndarray) and (a.dtype.kind in "iu" or (a.dtype.kind == "f" and bool((a == np.round(a)).all())))


def _changes(model: Any, x: Any, place: int) -> np.ndarray | None:
    """Return at which places of a sequence the outputs change with its last token; None where the model gives no output for each."""
    flat = [None if a is None else np.asarray(a)[:_SAMPLES] for a in tree.flatten(x)]
    tokens = np.array(flat[place])
    known = np.unique(tokens)
    tokens[:, -1] = known[(np.searchsorted(known, tokens[:, -1]) + 1) % len(known)]
    outputs = []
    for changed in (flat[place], tokens):
        inputs = tree.pack_sequence_as(x, [changed if i == place else a for i, a in enumerate(flat)])
        with keras.StatelessScope():
            found = model(as_fit_does(inputs), training=False)
        if not hasattr(found, "shape") or len(found.shape) != 3 or found.shape[1] != tokens.shape[1]:
            return None
        outputs.append(ops.convert_to_numpy(ops.cast(ops.stop_gradient(found), "float32")))
    changes = np.abs(outputs[1] - outputs[0]).max(axis=(0, 2))
    return changes > _ROUNDING * np.abs(outputs[0]).max()


def leaks(model: Any, data: tuple[Any, Any, Any]) -> str | None:
    """Return `leak_of` a model on samples; empty where it cannot be found, as for targets that are no tokens."""
    x, y, _ = data
    if not isinstance(y, np.ndarray) or type(model).call is keras.Model.call:
        return ""
    with contextlib.suppress(Exception):  # a monitor must not end a training
        return leak_of(model, x, y)
    return ""
