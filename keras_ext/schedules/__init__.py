"""Schedules: learning rates over the steps of a training, for any Keras optimizer, and batch sizes over its epochs."""

from keras_ext.schedules.cyclical import CyclicalLearningRate
from keras_ext.schedules.full_batch import FullBatch
from keras_ext.schedules.growing_batches import GrowingBatches
from keras_ext.schedules.one_cycle import OneCycle
from keras_ext.schedules.schedule import Schedule
from keras_ext.schedules.warmup import Warmup

__all__ = ["CyclicalLearningRate", "FullBatch", "GrowingBatches", "OneCycle", "Schedule", "Warmup"]
