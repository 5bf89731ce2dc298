"""A KerasTuner search on Ray, in one call."""

import copy
import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext._checks import bad_argument, in_range, integer
from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel.job import Shared
from keras_ext.parallel.parallel_search import ParallelSearch, RetryPolicy
from keras_ext.search import strategy as strategies
from keras_ext.search.project_folder import recover
from keras_ext.search.report.view import View
from keras_ext.search.together.side_by_side import models_at_once
from keras_ext.search.tuners.pruning import pruner_for
from keras_ext.search.watch import is_watched
from keras_ext.search.writable import check_writable


def run_on_ray(
    make_tuner: Callable[[str], Any],
    x: Any,
    y: Any = None,
    *,
    directory: str | Path,
    monitor: SaturationMonitor | None = None,
    pruner: Any = None,
    seed: int | None = None,
    trials_at_once: int | None = None,
    resources: dict[str, float] | None = None,
    address: str | None = None,
    trials_per_process: int | None = None,
    max_retries: int = 2,
    trial_timeout: float | None = None,
    memory_limit: float | None = None,
    strategy: str | None = None,
    together: Any = "auto",
    view: View | None = None,
    **fit: Any,
) -> Any:
    """Run a KerasTuner search whose trials are Ray tasks, each in a process of its own; returns the tuner, with what a local search leaves.

    The oracle stays in this process and hears of the trials in the order in which they end: with one trial at once, and the same seed, it
    asks for the same trials as a local search. Checkpoints and what `watch` keeps of each trial come back to the tuner's project, so that
    `results`, `get_best_models` and going on after a kill (a call with the same `directory`) work as after a local search. Trials that
    were under way start again.

    A trial whose process dies runs again, elsewhere if it must. What fails in a trial fails that trial alone, with the reason in
    `results(tuner)`.

    Args:
        make_tuner: function of a folder that returns a new tuner with `directory=` that folder and `overwrite=False`. It is called here,
            and in each trial's process with a folder there.
        x: inputs, as fit takes them. Arrays go into Ray's object store once. A function without arguments is called in each trial's
            process: so does data come that cannot travel, like a tf.data.Dataset.
        y: targets, likewise.
        directory: folder of the project.
        monitor: observes each trial; with `on_critical="stop"` it ends the unpromising.
        pruner: as of `watch`; each trial waits at the end of an epoch for its answer.
        seed: of the trials' weights; that of the oracle if None.
        trials_at_once: processes at once, each with a trial or a group of trials that train together. As many as the cluster has
            resources for if None.
        resources: of Ray, for a trial: `{"CPU": 1, "GPU": 0.25}` lets four share a GPU. One CPU if None, and an equal share of the GPUs.
        address: of a Ray cluster, as `ray.init` takes it. None: that which this process is connected to, or else Ray on this machine alone,
            ended afterwards.
        trials_per_process: after so many trials a process ends, which gives a GPU's memory back. More save the start of a process, some
            seconds. None: after one trial, or one group of trials that train together.
        max_retries: how often a trial whose process died runs again.
        trial_timeout: seconds after which a trial fails.
        memory_limit: MiB of main memory over which a trial fails; Ray's own `memory` sets nothing of the kind.
        strategy: `"mirrored"`: a trial trains on all devices that it sees.
        together: most trials that train at once in one process, as of `watch`; `"auto"` asks this process's device. With a limit of time or
            memory, or a strategy, a process runs one trial at a time. The trials of a process that ran one after another share programs.
        view: shows the trials.
        **fit: further arguments of `tuner.search`: `validation_data`, `epochs`, `callbacks`, ... Callbacks travel to each process.

    Raises:
        ImportError: Ray is not installed.
        ValueError: the tuner is watched, or does not lie in the folder that it was given; the pruner is unknown, or the tuner Hyperband;
            Ray has not the resources.
        OSError: the folder cannot be written.

    Examples:
        def make_tuner(folder):
            return keras_tuner.RandomSearch(build, "val_loss", max_trials=20, seed=1, directory=folder)

        tuner = run_on_ray(make_tuner, x, y, directory="search", validation_data=(x_val, y_val), epochs=10, trials_at_once=4)
        tuner.results_summary()
    """
    need_ray()
    if not callable(make_tuner):
        raise bad_argument("make_tuner", "a function of a folder that returns a tuner", make_tuner, error=TypeError)
    if monitor is not None and not isinstance(monitor, SaturationMonitor):
        raise bad_argument("monitor", "a SaturationMonitor or None", monitor, error=TypeError)
    if trials_at_once is not None:
        integer("trials_at_once", trials_at_once)
    if trials_per_process is not None:
        integer("trials_per_process", trials_per_process)
    retry_policy = RetryPolicy(integer("max_retries", max_retries, 0), trial_timeout)
    for name, limit in (("trial_timeout", trial_timeout), ("memory_limit", memory_limit)):
        if limit is not None:
            in_range(name, limit, 0, closed="neither")
    strategies.check(strategy)
    needs = _checked(resources)
    check_writable(Path(directory))
    tuner = make_tuner(str(directory))
    if not isinstance(tuner, keras_tuner.engine.base_tuner.BaseTuner):
        raise bad_argument("make_tuner", "a function of a folder that returns a KerasTuner tuner", tuner, error=TypeError)
    if is_watched(tuner):
        raise ValueError("`make_tuner` must return a tuner that is not watched. Give the monitor to run_on_ray.")
    if Path(tuner.directory) != Path(directory):
        raise ValueError(f"`make_tuner` must give its tuner the folder that it gets as `directory`, got one in {tuner.directory}.")
    pruner = pruner_for(tuner, pruner)
    recover(tuner)
    has_limits = any(value is not None for value in (trial_timeout, memory_limit, strategy))
    count = models_at_once(together, has_limits)
    shared = Shared(
        make_tuner,
        _without_listener(monitor),
        tuner.oracle.seed if seed is None else integer("seed", seed, 0),
        keras.dtype_policies.serialize(keras.config.dtype_policy()),
        (x,) if y is None else (x, y),
        fit,
        strategy,
        None if memory_limit is None else math.ceil(memory_limit * 2**20),
        count,
        pruner is not None,
    )
    from keras_ext.parallel.cluster import connected, room_for
    from keras_ext.parallel.ray_workers import RayWorkers

    with connected(address, trials_at_once, needs):
        needs, at_once = room_for(needs, trials_at_once, is_shared=resources is None)
        on_finding = None if monitor is None else monitor.on_finding
        # No more than leaves as many for each of the other processes.
        share = math.inf if tuner.oracle.max_trials is None else math.ceil(tuner.oracle.max_trials / at_once)
        group = int(max(1, min(count, share, trials_per_process or count)))
        shared = replace(shared, together=min(count, group))
        workers = RayWorkers(shared, needs, (trials_per_process or 1) // group or 1)
        ParallelSearch(tuner, workers, at_once, retry_policy, on_finding, view, fit.get("verbose"), pruner, group).search()
    return tuner


def need_ray() -> None:
    """Raise ImportError, with the fix, where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError("Searches on several processes or machines need Ray. Install it with: pip install keras-ext[ray]")


def _checked(resources: dict[str, float] | None) -> dict[str, float]:
    if resources is None:
        return {"CPU": 1}
    if not isinstance(resources, dict) or not all(isinstance(name, str) for name in resources):
        raise bad_argument("resources", 'a dict of amounts, as {"CPU": 1, "GPU": 0.25}', resources, error=TypeError)
    for name, amount in resources.items():
        in_range(f"resources[{name!r}]", amount, 0)
    return {"CPU": 1, **resources}


def _without_listener(monitor: SaturationMonitor | None) -> SaturationMonitor | None:
    """Return a monitor to send away; who listens to it stays here."""
    if monitor is None:
        return None
    sent = copy.copy(monitor)
    sent.on_finding = None
    return sent
