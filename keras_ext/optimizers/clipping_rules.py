"""Rules that bound gradients: pure functions from the list of gradients to the list of clipped ones.

Norms are taken in float32 at least, whatever the gradients' dtype (a float16 sum of squares overflows at a norm of 256), and rows of one id
must have been summed before. A sparse gradient stays sparse.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ext import _backend


def by_value(gradients: Sequence[Any], threshold: float) -> list[Any]:
    """Bring every number into [-threshold, threshold].

    >>> [float(v) for v in by_value([ops.convert_to_tensor([3.0, -0.5])], 1.0)[0]]
    [1.0, -0.5]
    """
    return [_with(g, ops.clip(_backend.sparse_values(g), -threshold, threshold)) for g in gradients]


def by_norm(gradients: Sequence[Any], threshold: float) -> list[Any]:
    """Scale each gradient by itself so that its L2 norm is at most `threshold` (Pascanu et al. 2013, algorithm 1, one variable at a time).

    >>> [round(float(v), 6) for v in by_norm([ops.convert_to_tensor([3.0, 4.0])], 1.0)[0]]
    [0.6, 0.8]
    """
    return [_scaled(g, _factor(ops.sqrt(_sum_of_squares(g)), threshold)) for g in gradients]


def by_global_norm(gradients: Sequence[Any], threshold: float) -> list[Any]:
    """Scale all gradients by one factor so that their joint L2 norm is at most `threshold` (Pascanu, Mikolov and Bengio 2013, algorithm 1).

    >>> clipped = by_global_norm([ops.convert_to_tensor([3.0]), ops.convert_to_tensor([4.0])], 1.0)
    >>> [round(float(g[0]), 6) for g in clipped]
    [0.6, 0.8]
    """
    factor = _factor(global_norm(gradients), threshold)
    return [_scaled(g, factor) for g in gradients]


def global_norm(gradients: Sequence[Any]) -> Any:
    """Return the L2 norm of all gradients taken as one vector."""
    return ops.sqrt(sum(_sum_of_squares(g) for g in gradients))


RULES: dict[str, Callable[[Sequence[Any], float], list[Any]]] = {
    "value": by_value,
    "norm": by_norm,
    "global_norm": by_global_norm,
}


def _sum_of_squares(gradient: Any) -> Any:
    values = _backend.sparse_values(gradient)
    return ops.sum(ops.square(ops.cast(values, keras.backend.result_type(values.dtype, "float32"))))


def _factor(norm: Any, threshold: float) -> Any:
    # Exactly 1 within the threshold: a rounded quotient would change the gradient in its last bit. A norm that is NaN scales nothing.
    return ops.where(norm > threshold, threshold / norm, 1.0)


def _scaled(gradient: Any, factor: Any) -> Any:
    values = _backend.sparse_values(gradient)
    # In the norm's dtype: a factor under 6e-8 is 0 in float16.
    return _with(gradient, ops.cast(ops.cast(values, factor.dtype) * factor, values.dtype))


def _with(gradient: Any, values: Any) -> Any:
    return _backend.with_sparse_values(gradient, values)


def over_replicas(rule: Callable[[Sequence[Any], float], list[Any]], gradients: Sequence[Any], threshold: float) -> list[Any]:
    """Clip the sum of the replicas' gradients, the rows of one id summed, and return each replica's share of what is left."""
    replicas = _backend.replica_count()
    # Rows of one id are summed last: the replicas' sum puts the parts of each side by side.
    whole = [_backend.sum_repeated_rows(g) for g in _backend.sum_over_replicas(list(gradients))]
    clipped = rule(whole, threshold)
    return clipped if replicas == 1 else [_with(g, _backend.sparse_values(g) / replicas) for g in clipped]
