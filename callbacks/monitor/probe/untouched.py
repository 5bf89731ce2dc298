"""Running a model beside its training, so that it stays as it is."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree


def untouched(model: Any) -> keras.StatelessScope:
    """Return a scope that forgets what the model's layers and metrics write, and keeps the losses of its layers for `model.losses`."""
    # Regularizers ask the scope for the weights, and get None for those that it does not know.
    mapping = [(v, ops.convert_to_tensor(v)) for v in model.trainable_variables]
    return keras.StatelessScope(state_mapping=mapping, collect_losses=True)


def as_fit_does(data: Any) -> Any:
    """Return arrays as tensors; floats in Keras's float type, as `fit` hands them to the model."""
    return tree.map_structure(lambda a: None if a is None else _tensor(np.asarray(a)), data)


def _tensor(array: np.ndarray) -> Any:
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)


def as_float(tensor: Any) -> float:
    """Return a tensor of one number as a float."""
    return float(ops.convert_to_numpy(ops.stop_gradient(ops.cast(tensor, "float32"))))
