"""The cost of clipping: what `GradientClipping` adds to an optimizer's update, against Keras's argument of the same rule."""

from collections.abc import Iterator
from functools import partial

import keras

from benchmarks.groups.optimizers import SMALL_WEIGHTS, WEIGHTS, Make, compare
from benchmarks.measuring import measure
from benchmarks.measuring.compiled import modes
from benchmarks.measuring.figure import Case
from keras_ext.optimizers import GradientClipping


def _adam(**arguments: float) -> Make:
    return lambda: keras.optimizers.Adam(**arguments)


PARTS: dict[str, tuple[Make, Make]] = {
    "global_norm": (lambda: GradientClipping(keras.optimizers.Adam(), "global_norm"), _adam(global_clipnorm=1.0)),
    "norm": (lambda: GradientClipping(keras.optimizers.Adam(), "norm"), _adam(clipnorm=1.0)),
    "value": (lambda: GradientClipping(keras.optimizers.Adam(), "value"), _adam(clipvalue=1.0)),
}


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each rule around Keras's Adam on each set of weights in each mode."""
    for part, pair in PARTS.items():
        for weights in SMALL_WEIGHTS if effort.small else WEIGHTS:
            for mode, jit in modes().items():
                title = f"GradientClipping {part} {weights} {mode}"
                yield Case(
                    title, partial(compare, f"GradientClipping {part}", *pair, weights, mode, jit, effort, base=keras.optimizers.Adam)
                )
