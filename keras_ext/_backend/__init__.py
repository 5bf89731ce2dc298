"""The room of the frameworks: nothing outside it imports tensorflow, jax or torch.

Its laws:

1. One file per framework, named after it, with the same functions of the same signatures; `tests/test_house.py` compares them.
2. Only the file of the backend that Keras runs on is imported, so that no other framework need be installed.
3. What `keras.ops` can do stays outside; a function stands here because it needs the framework itself.
4. Private names of Keras that the package needs stand in `keras_private.py`, each with its reason.
"""

from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING or keras.backend.backend() == "tensorflow":
    from keras_ext._backend import tensorflow as _room
elif keras.backend.backend() == "jax":
    from keras_ext._backend import jax as _room
elif keras.backend.backend() == "torch":
    from keras_ext._backend import torch as _room
else:
    raise ImportError(
        f"keras_ext runs on the TensorFlow, JAX and PyTorch backends of Keras, got KERAS_BACKEND={keras.backend.backend()!r}. "
        "Set KERAS_BACKEND to tensorflow, jax or torch before the first import of keras."
    )

centred_sum = _room.centred_sum
compile_probe = _room.compile_probe
concrete_value = _room.concrete_value
cond = _room.cond
dense = _room.dense
device_name = _room.device_name
drop = _room.drop
fail_in_graph = _room.fail_in_graph
few_axes = _room.few_axes
forget_programs = _room.forget_programs
framework_version = _room.framework_version
fused_batch_norm = _room.fused_batch_norm
has_sparse_gradients = _room.has_sparse_gradients
identity = _room.identity
in_replica = _room.in_replica
joint_norm = _room.joint_norm
mirror = _room.mirror
norms = _room.norms
outside_of_graphs = _room.outside_of_graphs
prepare_devices = _room.prepare_devices
programs_on_disk = _room.programs_on_disk
put_rows = _room.put_rows
random_bytes = _room.random_bytes
replica_count = _room.replica_count
row_ids = _room.row_ids
row_sums = _room.row_sums
sparse_values = _room.sparse_values
step_programs = _room.step_programs
sum_over_replicas = _room.sum_over_replicas
sum_repeated_rows = _room.sum_repeated_rows
take_rows = _room.take_rows
trials_remembered = _room.trials_remembered
updates_every_weight_at_once = _room.updates_every_weight_at_once
updates_of_lists = _room.updates_of_lists
wait = _room.wait
with_rows = _room.with_rows
with_sparse_values = _room.with_sparse_values

__all__ = [
    "centred_sum",
    "compile_probe",
    "concrete_value",
    "cond",
    "dense",
    "device_name",
    "drop",
    "fail_in_graph",
    "few_axes",
    "forget_programs",
    "framework_version",
    "fused_batch_norm",
    "has_sparse_gradients",
    "identity",
    "in_replica",
    "joint_norm",
    "mirror",
    "norms",
    "outside_of_graphs",
    "prepare_devices",
    "programs_on_disk",
    "put_rows",
    "random_bytes",
    "replica_count",
    "row_ids",
    "row_sums",
    "sparse_values",
    "sum_over_replicas",
    "sum_repeated_rows",
    "take_rows",
    "trials_remembered",
    "updates_every_weight_at_once",
    "updates_of_lists",
    "wait",
    "with_rows",
    "with_sparse_values",
]
