"""A model's compiled train step, without the data pipeline, callbacks and progress bar of `fit`; no framework is imported here."""

from collections.abc import Callable
from typing import Any

import keras

# How Keras runs a train step: the name of the mode -> `jit_compile`. PyTorch's torch.compile is not what Keras users run there.
_MODES = {"tensorflow": {"XLA": True, "graph": False}, "jax": {"jit": True}, "torch": {"eager": False}}


def modes() -> dict[str, bool]:
    """Return the modes that the figures of this backend are taken in."""
    return _MODES[keras.backend.backend()]


def compiled_step(model: Any, data: Any) -> Callable[[], Any]:
    """Return a function that starts one of `fit`'s train steps of a built model on tensors and returns what is to be waited for."""
    model.make_train_function()
    if keras.backend.backend() != "jax":
        return lambda: model.train_function([data])
    # On JAX the state goes through the step, and its old buffers are given away.
    state = jax_state(model)

    def step() -> Any:
        nonlocal state
        logs, state = model.train_function(state, iter([data]))
        return logs, state

    return step


def jax_state(model: Any) -> tuple[list[Any], ...]:
    """Return what Keras's train step on JAX takes and gives back."""
    parts = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables)
    return tuple([v.value for v in variables] for variables in parts)
