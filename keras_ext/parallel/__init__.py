"""Trials of a KerasTuner search in processes of their own, on this machine or on a Ray cluster.

>>> from keras_ext.parallel import Placement
>>> Placement(workers=4).workers
4
"""

from keras_ext.parallel.on_ray import run_on_ray
from keras_ext.parallel.placement import Placement

__all__ = ["Placement", "run_on_ray"]
