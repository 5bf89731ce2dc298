"""The base of all random initializers: the checked seed, and a warning when one gives two weights the same values."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ext._checks import bad_argument
from keras_ext._warnings import warn


def checked_seed(seed: Any) -> Any:
    """Return `seed`, one of NumPy's as Python's own, which Keras takes and JSON keeps, if the backend can draw with it."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer | keras.random.SeedGenerator | dict | None):
        raise bad_argument("seed", "an int, a keras.random.SeedGenerator or None", seed)
    seed = int(seed) if isinstance(seed, np.integer) else seed
    if isinstance(seed, int) and not 0 <= seed < 2**31:
        try:
            keras.random.uniform((), seed=seed)
        except (ValueError, TypeError, OverflowError, RuntimeError):
            fix = "Every backend draws with those from 0 to 2,147,483,647."
            raise bad_argument("seed", "a whole number that the backend can draw with", seed, fix) from None
    return seed


class Draws:
    """Mixin of initializers with a `seed`: `note_draw` warns once when the same numbers are drawn a second time."""

    seed: Any

    def note_draw(self, shape: Sequence[int], given_seed: Any) -> None:
        """Remember that a weight of this shape was drawn; warn, once an instance, if one was before.

        Copies from the config, as Keras makes them for clones of a model and for the parts of an attention layer, are other instances.
        """
        if not isinstance(self.seed, int):
            return
        drawn = vars(self).setdefault("_drawn", set())
        if tuple(shape) in drawn and not vars(self).get("_warned", False):
            self._warned = True
            name = type(self).__name__
            warn(
                f"{name}(seed={given_seed!r}) was called again for a weight of shape {tuple(shape)} and gives the same numbers as before: "
                "two layers with it start identical, and learn the same. Give it `seed=keras.random.SeedGenerator(...)`, which goes on "
                "with each call, or call `keras_ext.initializers.initialize(model, ...)`, which gives each weight a stream of its own."
            )
        drawn.add(tuple(shape))
