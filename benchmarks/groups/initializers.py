"""The time of drawing first weights: an initializer made and called once, as a layer does it."""

from collections.abc import Callable, Iterator
from typing import Any

import keras

from benchmarks.comparison import Comparison, Step
from keras_ext import initializers

# Initializer, case, shape, further arguments of ours: an orthogonal matrix for each head, where Keras draws one of all together.
DRAWS: tuple[tuple[str, str, tuple[int, ...], dict[str, Any]], ...] = (
    ("HeNormal", "4096 x 4096", (4096, 4096), {}),
    ("GlorotUniform", "3 x 3 x 512 x 512", (3, 3, 512, 512), {}),
    ("HeNormal", "8 x 8", (8, 8), {}),
    ("Orthogonal", "4096 x 4096", (4096, 4096), {}),
    ("Orthogonal", "16 heads of 1024 x 64", (1024, 16, 64), {"input_axes": [0], "output_axes": [2]}),
)


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each draw; a small one has no axis over 8."""
    for name, case, full, arguments in DRAWS:
        shape, case = (tuple(min(size, 8) for size in full), f"{case}, none over 8") if small else (full, case)
        ours, theirs = getattr(initializers, name), getattr(keras.initializers, name)
        yield Comparison(name, case, "eager", _draw(ours, shape, arguments), _draw(theirs, shape, {}))


def _draw(initializer: Callable[..., Any], shape: tuple[int, ...], arguments: dict[str, Any]) -> Callable[[], Step]:
    return lambda: lambda: initializer(seed=1, **arguments)(shape)
