"""What a trial costs beyond its training: building, checkpoints and records, with `watch` and with KerasTuner alone."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras_tuner

from benchmarks import apart, searching
from benchmarks.comparison import Comparison
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield a search of 8 trials, each time in a new process."""
    trials = 1 if small else 8
    builders = [partial(partial, apart.run, beyond_training, is_watched, trials) for is_watched in (True, False)]
    yield Comparison("watch", f"a search of {trials} trials", "as Keras chooses", *builders, timed=False, rounds=3, seconds=0.0)


def beyond_training(is_watched: bool, trials: int) -> float:
    """Return the ms of a trial of a search that are not its fit, after a search of one trial."""
    took = 0.0
    for count in (1, trials):
        split, space, held_out = searching.digits()
        fit, fits = space.fit, list[float]()

        def timed(*args: Any, fit: Any = fit, fits: list[float] = fits, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            found = fit(*args, **kwargs)
            fits.append(time.perf_counter() - begin)
            return found

        space.fit = timed
        with searching.quiet_tuner(keras_tuner.RandomSearch, space, objective=space.objective, max_trials=count, seed=1) as tuner:
            if is_watched:
                watch(tuner, SaturationMonitor(split.x, split.y, on_critical=None))
            begin = time.perf_counter()
            tuner.search(split.x, split.y, validation_data=held_out, epochs=2, verbose=0)
            took = 1e3 * (time.perf_counter() - begin - sum(fits)) / count
    return took
