"""The cost of clipping: what `GradientClipping` adds to an optimizer's update, against Keras's argument of the same rule."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from benchmarks.comparison import Comparison
from benchmarks.compiled import modes
from benchmarks.groups.optimizers import SMALL_WEIGHTS, WEIGHTS, Make, update
from keras_ext.optimizers import GradientClipping


class Counting(keras.optimizers.Adam):
    """Keras's Adam that clips by value, and measures what `GradientClipping` counts: the joint norm and the largest number."""

    def build(self, variables: Any) -> None:
        """Create the place for both."""
        super().build(variables)
        self.seen = self.add_variable((2,), name="seen")

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Measure, and update."""
        grads = list(grads)
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in grads))
        self.seen.assign(ops.stack([norm, ops.max(ops.stack([ops.max(ops.abs(g)) for g in grads]))]))
        super().apply(grads, trainable_variables)


# By rule: ours, and Keras's argument.
PARTS: dict[str, tuple[Make, Make]] = {
    "global_norm": (lambda: GradientClipping(keras.optimizers.Adam(), "global_norm"), lambda: keras.optimizers.Adam(global_clipnorm=1.0)),
    "value": (lambda: GradientClipping(keras.optimizers.Adam(), "value"), lambda: keras.optimizers.Adam(clipvalue=1.0)),
    "value, which Keras's counts too": (lambda: GradientClipping(keras.optimizers.Adam(), "value"), lambda: Counting(clipvalue=1.0)),
}


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each rule around Keras's Adam on each set of weights in each mode."""
    for rule, pair in PARTS.items():
        for weights in SMALL_WEIGHTS if small else WEIGHTS:
            for mode, jit in modes().items():
                yield update(f"GradientClipping {rule}", pair, keras.optimizers.Adam, weights, mode, jit)
