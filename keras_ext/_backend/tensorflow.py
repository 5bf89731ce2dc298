"""What the package needs of TensorFlow itself."""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def framework_version() -> str:
    """Return the framework's name and version."""
    return f"tensorflow {tf.__version__}"


def prepare_devices() -> None:
    """Let TensorFlow take a GPU's memory as it needs it, not all of it at once."""
    for gpu in tf.config.list_physical_devices("GPU"):
        # A GPU in use already keeps what it has.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


def device_name() -> str:
    """Return the name of the device that computations go to."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return "GPU " + str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


def wait(tree: Any) -> None:
    """Return once every tensor in `tree` has been computed."""
    for tensor in tf.nest.flatten(tree):
        if hasattr(tensor, "numpy"):
            tensor.numpy()


def sum_repeated_rows(gradient: Any) -> Any:
    """Gather the rows of a sparse gradient that carry the same id into one of them; the others become zero.

    The rows' number stays as it was, so that the shapes are static and XLA compiles it (`tf.unique` it does not).
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    order = tf.argsort(gradient.indices, stable=True)
    ids = tf.gather(gradient.indices, order)
    rows = tf.gather(gradient.values, order)
    first = tf.concat([tf.ones_like(ids[:1], dtype=tf.bool), ids[1:] != ids[:-1]], axis=0)
    group = tf.cumsum(tf.cast(first, tf.int32)) - 1
    sums = tf.math.unsorted_segment_sum(rows, group, tf.shape(ids)[0])
    shape = tf.concat([tf.shape(ids), tf.ones(tf.rank(rows) - 1, tf.int32)], axis=0)
    rows = tf.where(tf.reshape(first, shape), tf.gather(sums, group), tf.zeros_like(rows))
    return tf.IndexedSlices(rows, ids, gradient.dense_shape)


def sparse_values(gradient: Any) -> Any:
    """Return the numbers that a gradient stores, without those that are zero because it is sparse."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `gradient` with other stored numbers."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


def replica_count() -> int:
    """Return how many replicas of a distribution strategy run this step."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tree: Any) -> Any:
    """Return each tensor of `tree` summed over the replicas of a distribution strategy."""
    if replica_count() == 1:
        return tree
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tree)


def compile_probe(forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `forward(trainable, other, data) -> loss, outputs` and `reduce(loss, gradients, trainable, outputs) -> vector`.

    Returns a function of the lists of variables and the data; it differentiates the loss by `trainable` and returns the vector as NumPy.
    """

    @tf.function
    def run(trainable: list[Any], other: list[Any], data: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trainable)
            loss, outputs = forward(trainable, other, data)
        gradients = tape.gradient(loss, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return reduce(loss, [tf.convert_to_tensor(g) for g in gradients], trainable, outputs)

    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        def read(variables: list[Any]) -> list[Any]:
            return [tf.convert_to_tensor(v.value) for v in variables]

        return run(read(trainable), read(other), data).numpy()

    return probe
