"""The cost of clipping: what `GradientClipping` adds to an optimizer's update, against Keras's argument of the same rule."""

from collections.abc import Iterator

import keras

from benchmarks.comparison import Comparison
from benchmarks.compiled import modes
from benchmarks.groups.optimizers import SMALL_WEIGHTS, WEIGHTS, Make, update
from keras_ext.optimizers import GradientClipping

# By rule: ours, and Keras's argument.
PARTS: dict[str, tuple[Make, Make]] = {
    "global_norm": (lambda: GradientClipping(keras.optimizers.Adam(), "global_norm"), lambda: keras.optimizers.Adam(global_clipnorm=1.0)),
    "value": (lambda: GradientClipping(keras.optimizers.Adam(), "value"), lambda: keras.optimizers.Adam(clipvalue=1.0)),
}


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each rule around Keras's Adam on each set of weights in each mode."""
    for rule, pair in PARTS.items():
        for weights in SMALL_WEIGHTS if small else WEIGHTS:
            for mode, jit in modes().items():
                yield update(f"GradientClipping {rule}", pair, keras.optimizers.Adam, weights, mode, jit)
