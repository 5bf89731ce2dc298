"""A search at the place that was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel.children import Children
from keras_ext.parallel.job import Shared
from keras_ext.parallel.on_ray import run_on_ray
from keras_ext.parallel.parallel_search import ParallelSearch, RetryPolicy
from keras_ext.parallel.placement import Placement
from keras_ext.search.project_folder import recover
from keras_ext.search.report.view import View
from keras_ext.search.together.side_by_side import models_at_once
from keras_ext.search.tuners.pruning import pruner_for
from keras_ext.search.watch import watch


def search_at(
    placement: Placement,
    make_tuner: Callable[[str], Any],
    folder: Path,
    monitor: SaturationMonitor,
    *,
    seed: int,
    view: View,
    pruner: Any = None,
    **fit: Any,
) -> Any:
    """Search with the tuner that `make_tuner` makes for `folder`, and return it; `fit` are the arguments of its `search`."""
    if placement.on_ray:
        return run_on_ray(
            make_tuner,
            directory=folder,
            monitor=monitor,
            seed=seed,
            trials_at_once=None if placement.ray is not None and placement.workers == 1 else placement.workers,
            resources=placement.resources,
            address=placement.ray,
            trials_per_process=placement.isolate or None,
            max_retries=placement.max_retries,
            trial_timeout=placement.trial_timeout,
            memory_limit=placement.memory_limit,
            strategy=placement.strategy,
            together=placement.together,
            view=view,
            pruner=pruner,
            **fit,
        )
    tuner = make_tuner(str(folder))
    if not placement.trials_of_a_process:
        watch(tuner, monitor, pruner=pruner, seed=seed, view=view, together=placement.together).search(**fit)
        return tuner
    pruner = pruner_for(tuner, pruner)
    recover(tuner)
    # A limit is a trial's, and needs a process in which it runs alone.
    count = min(models_at_once(placement.together, placement.has_limits), placement.trials_of_a_process)
    shared = Shared(
        make_tuner,
        monitor,
        seed,
        keras.dtype_policies.serialize(keras.config.dtype_policy()),
        kwargs=fit,
        strategy=placement.strategy,
        memory_limit=placement.bytes_of_a_trial,
        together=count,
        prunes=pruner is not None,
    )
    retry_policy = RetryPolicy(placement.max_retries, placement.trial_timeout)
    group = max(1, count)
    workers = Children(shared, placement.trials_of_a_process // group)
    ParallelSearch(tuner, workers, 1, retry_policy, None, view, fit.get("verbose"), pruner, group).search()
    return tuner
