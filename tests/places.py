"""Where the trials of a search run in the tests: in this process, in one of their own, or on Ray."""

import keras

from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel import run_on_ray
from keras_ext.parallel.children import Children
from keras_ext.parallel.job import Shared
from keras_ext.parallel.parallel_search import ParallelSearch, RetryPolicy
from keras_ext.search import results, watch
from keras_ext.search.tuners.pruning import pruner_for


def monitor(fit):
    return SaturationMonitor(fit["x"], fit["y"], on_critical=None)


def here(make, folder, fit, pruner, together=1):
    """Search here; one trial after another, as of those under way at once none is complete when the others ask."""
    tuner = watch(make(str(folder)), monitor(fit), pruner=pruner, together=together)
    tuner.search(**fit)
    return tuner


def in_children(make, folder, fit, pruner):
    """Search in a process of its own."""
    tuner, policy = make(str(folder)), keras.dtype_policies.serialize(keras.config.dtype_policy())
    pruner = pruner_for(tuner, pruner)
    children = Children(Shared(make, monitor(fit), 1, policy, (), fit, prunes=pruner is not None), 99)
    ParallelSearch(tuner, children, 1, RetryPolicy(), verbose=0, pruner=pruner).search()
    return tuner


def on_ray(make, folder, fit, pruner):
    """Search on Ray, one trial after another as `here`."""
    once = {"trials_at_once": 1, "together": 1, "trials_per_process": 99}
    return run_on_ray(make, directory=folder, monitor=monitor(fit), pruner=pruner, **once, **fit)


def in_turn(tuner):
    """Return the records in the order of the trials."""
    return sorted(results(tuner), key=lambda record: record.number)
