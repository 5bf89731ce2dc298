"""A scope in which a model runs and stays as it is."""

from typing import Any

import keras
from keras import ops


def untouched(model: Any) -> keras.StatelessScope:
    """Return a scope that forgets what the model's layers and metrics write, and keeps the losses of its layers for `model.losses`."""
    # Regularizers ask the scope for the weights, and get None for those that it does not know.
    mapping = [(v, ops.convert_to_tensor(v)) for v in model.trainable_variables]
    return keras.StatelessScope(state_mapping=mapping, collect_losses=True)
