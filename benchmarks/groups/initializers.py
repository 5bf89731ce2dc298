"""The time of drawing first weights: an initializer made and called once, as a layer does it."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from benchmarks.comparison import Comparison, Step
from keras_ext import initializers

HEADS = (1024, 16, 64)
# Initializer, case, shape, further arguments of ours, shape of Keras's. Of heads ours are orthogonal each and to each other: a matrix of
# 1024 x 1024. Keras draws one of 16,384 x 64, whose columns are orthogonal over all heads together.
DRAWS: tuple[tuple[str, str, tuple[int, ...], dict[str, Any], tuple[int, ...]], ...] = (
    ("HeNormal", "4096 x 4096", (4096, 4096), {}, (4096, 4096)),
    ("GlorotUniform", "3 x 3 x 512 x 512", (3, 3, 512, 512), {}, (3, 3, 512, 512)),
    ("HeNormal", "8 x 8", (8, 8), {}, (8, 8)),
    ("Orthogonal", "4096 x 4096", (4096, 4096), {}, (4096, 4096)),
    ("Orthogonal", "16 heads of 1024 x 64", HEADS, {"input_axes": [0], "output_axes": [2]}, HEADS),
    ("Orthogonal", "16 heads of 1024 x 64 over 1024 x 1024", HEADS, {"input_axes": [0], "output_axes": [2]}, (1024, 1024)),
)


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each draw; a small one has no axis over 8."""
    for name, case, ours, arguments, theirs in DRAWS:
        shapes = [tuple(min(size, 8) for size in shape) if small else shape for shape in (ours, theirs)]
        draws = (_draw(getattr(initializers, name), shapes[0], arguments), _draw(getattr(keras.initializers, name), shapes[1], {}))
        yield Comparison(name, f"{case}, none over 8" if small else case, "eager", *draws)


def _draw(initializer: Callable[..., Any], shape: tuple[int, ...], arguments: dict[str, Any]) -> Callable[[], Step]:
    return lambda: lambda: initializer(seed=1, **arguments)(shape)
