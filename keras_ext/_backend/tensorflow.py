"""The functions that need TensorFlow itself."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ext._backend import tensorflow_gradients, tensorflow_steps, tensorflow_updates

# Sums of fewer numbers take no time.
_FEW = 1024


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


def trials_remembered() -> int:
    """Return how many trials a search runs before what they left is forgotten, which costs nothing here."""
    return 1


def forget_programs() -> None:
    """Let go of the graphs of models that are gone; what is still in use stays."""
    tensorflow_gradients.let_go()


def programs_on_disk() -> contextlib.AbstractContextManager[None]:
    """Return a context that does nothing: TensorFlow's programs go with their models, and are nobody else's."""
    return contextlib.nullcontext()


def step_programs() -> Any:
    """Return the module of programs of several training steps."""
    return tensorflow_steps


def random_state() -> Any:
    """Return the state of TensorFlow's random generators, which each thread has for itself."""


def set_random_state(state: Any) -> None:
    """Do nothing: see `random_state`."""


def wait(tree: Any) -> None:
    """Return once every tensor in `tree` has been computed."""
    for tensor in tf.nest.flatten(tree):
        if hasattr(tensor, "numpy"):
            tensor.numpy()


def _compiles_with_xla() -> bool:
    """Return whether what is traced now goes to XLA (`jit_compile=True`, a TPU); False for what XLA takes later, unasked."""
    return tf.__internal__.get_enclosing_xla_context() is not None


def random_bytes(count: Any, seed: Any) -> Any:
    """Return `count` random bytes for the two integers of `seed`; on one device the same with XLA and without.

    On a CPU of SplitMix64 (Steele et al. 2014), which XLA there computes in a twentieth of the time of Philox (Salmon et al. 2011).
    """
    words = (count + 7) // 8
    if tf.config.list_logical_devices("GPU"):
        # One kernel. As Keras: the operation wants int32, the generator's state is wider.
        seed = tf.cast(tf.math.floormod(tf.cast(seed, tf.int64), tf.int32.max - 1), tf.int32)
        # Without limits: all 64 bits; the stubs know floats only.
        drawn = tf.random.stateless_uniform([words], seed, None, None, tf.uint64, alg="philox")  # pyright: ignore[reportArgumentType]
    else:
        # A multiplier of Steele and Vigna (2021) spreads the seeds. The second integer counts the draws: 2^32 times the multiplier apart,
        # those of one seed never overlap.
        first = tf.bitcast(tf.cast(seed, tf.uint32), tf.uint64) * _uint64(0xD1342543DE82EF95)
        drawn = first + tf.cast(tf.range(1, words + 1, dtype=tf.int64), tf.uint64) * _uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            drawn = tf.bitwise.bitwise_xor(drawn, tf.bitwise.right_shift(drawn, _uint64(shift))) * _uint64(factor)
        drawn = tf.bitwise.bitwise_xor(drawn, tf.bitwise.right_shift(drawn, _uint64(31)))
    return tf.reshape(tf.bitcast(drawn, tf.uint8), [-1])[:count]


def _uint64(number: int) -> Any:
    return tf.constant(number, tf.uint64)


def drop(x: Any, keep: Any, scale: Any) -> Any:
    """Return `x * scale` where `keep`, which broadcasts to `x`, and 0 elsewhere and for a scale of 0, whatever `x` is there.

    Computed in float32 at least.
    """
    in_xla = _compiles_with_xla()
    dtype, wide = x.dtype, tf.float64 if x.dtype == tf.float64 else tf.float32

    @tf.custom_gradient
    def dropped(x: Any) -> Any:
        return (select if in_xla else multiply)(x), select

    def select(value: Any) -> Any:
        return tf.cast(tf.where(keep, tf.math.multiply_no_nan(tf.cast(value, wide), tf.cast(scale, wide)), 0), dtype)

    def multiply(value: Any) -> Any:
        # Without XLA faster than `tf.where`, which copies more. In both directions it would be as fast, but TensorFlow would make the
        # float32 mask once and keep it from one to the other, four times the bytes.
        return tf.cast(tf.math.multiply_no_nan(tf.cast(value, wide), tf.cast(keep, wide) * tf.cast(scale, wide)), dtype)

    return dropped(x)


def fused_batch_norm(x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> tuple[Any, Any, Any] | None:
    """Return the normalised `x`, its mean and its biased variance, or None where no kernel of the framework may do it.

    The kernel takes channels that are last, and not float64. Under XLA it is E[x^2] - E[x]^2, wrong by 4e5 in the variance at an offset of
    1e5, and slow. Without XLA it takes two passes, but sums the values themselves: where a mean is more than 10 standard deviations,
    the statistics are taken again, of the values less one of them.
    """
    if _compiles_with_xla() or axis != len(x.shape) - 1 or x.dtype == tf.float64:
        return None
    channels = x.shape[-1]
    image = x if len(x.shape) == 4 else tf.reshape(x, [-1, 1, 1, channels])
    # A GPU's kernel hands its own gradient more than mean and variance.
    on_cpu = not tf.config.list_logical_devices("GPU")
    y, mean, variance = (_cpu_batch_norm if on_cpu else _fused_or_again)(image, gamma, beta, epsilon)
    return tf.reshape(y, tf.shape(x)), mean, variance


def _cpu_batch_norm(image: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Do what `_fused_or_again` does, with the kernel's gradient for both cases: that of a condition costs two passes more."""

    @tf.custom_gradient
    def normalized(image: Any, gamma: Any, beta: Any) -> Any:
        y, mean, variance = _fused_or_again(image, gamma, beta, epsilon)

        def gradient(upstream: Any, *_statistics: Any) -> Any:
            kept = {"reserve_space_1": mean, "reserve_space_2": variance, "reserve_space_3": tf.zeros([0])}
            arguments = {"y_backprop": upstream, "x": image, "scale": gamma, **kept, "epsilon": epsilon, "is_training": True}
            return tf.raw_ops.FusedBatchNormGradV3(**arguments)[:3]

        return (y, mean, variance), gradient

    return normalized(image, gamma, beta)


def _fused_or_again(image: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return the kernel's output, mean and biased variance; where the mean is far from 0, what a second try gets."""
    count = tf.cast(tf.size(image) // image.shape[-1], tf.float32)
    y, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
        x=image, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    variance = unbiased * ((count - 1.0) / count)

    def again() -> tuple[Any, Any, Any]:
        values = tf.reshape(image, [-1, image.shape[-1]])
        shift = tf.stop_gradient(tf.cast(values[tf.shape(values)[0] // 2], tf.float32))
        centred = tf.cast(image, tf.float32) - shift
        rest = tf.reduce_mean(centred, [0, 1, 2])
        exact = tf.reduce_mean(tf.square(centred - rest), [0, 1, 2])
        normalised = (centred - rest) * (tf.math.rsqrt(exact + epsilon) * gamma) + beta
        return tf.cast(normalised, image.dtype), shift + rest, exact

    far = tf.reduce_any(tf.square(mean) > 100.0 * (variance + epsilon))
    return tf.cond(far, again, lambda: (y, mean, variance))


def updates_of_lists(together: bool = False) -> Any:
    """Return the optimizers' steps in TensorFlow's own kernels, or None where XLA compiles the formulas better.

    Nor may they take all weights `together` where a strategy hands over one variable of one device after the other.
    """
    return None if _compiles_with_xla() or (together and tf.distribute.has_strategy()) else tensorflow_updates


def sum_repeated_rows(gradient: Any) -> Any:
    """Gather the rows of a sparse gradient that carry the same id into one of them; the others become zero.

    The rows' number stays as it was, so that the shapes are static and XLA compiles it (`tf.unique` it does not).
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    ids, sums, first = _sums_of_ids(gradient)
    shape = tf.concat([tf.shape(ids), tf.ones(tf.rank(sums) - 1, tf.int32)], axis=0)
    return tf.IndexedSlices(tf.where(tf.reshape(first, shape), sums, tf.zeros_like(sums)), ids, gradient.dense_shape)


def row_sums(gradient: Any) -> tuple[Any, Any] | None:
    """Return the ids of a sparse gradient, sorted, and for each of them the sum of all rows of that id; None if it is dense."""
    return _sums_of_ids(gradient)[:2] if isinstance(gradient, tf.IndexedSlices) else None


def _sums_of_ids(gradient: Any) -> tuple[Any, Any, Any]:
    """Return the sorted ids, the sum of the rows of each, and where an id stands for the first time."""
    order = tf.argsort(gradient.indices, stable=True)
    ids = tf.gather(gradient.indices, order)
    rows = tf.gather(gradient.values, order)
    first = tf.concat([tf.ones_like(ids[:1], dtype=tf.bool), ids[1:] != ids[:-1]], axis=0)
    group = tf.cumsum(tf.cast(first, tf.int32)) - 1
    sums = tf.math.unsorted_segment_sum(rows, group, tf.shape(ids)[0])
    return ids, tf.gather(sums, group), first


def take_rows(variable: Any, ids: Any) -> Any:
    """Return the rows `ids` of a variable; the others are not read."""
    return tf.gather(variable.value if isinstance(variable, keras.Variable) else variable, ids)


def put_rows(optimizer: Any, variable: Any, ids: Any, old: Any, new: Any) -> None:
    """Set the rows `ids` of a variable from `old` to `new`; where an id repeats, so do its rows. The others are not written."""
    optimizer.assign(variable, tf.IndexedSlices(new, ids))


def with_rows(tensor: Any, ids: Any, rows: Any) -> Any:
    """Return `tensor` with other rows at `ids`; where an id repeats, so does its row."""
    return tf.tensor_scatter_nd_update(tensor, ids[:, None], rows)


def dense(gradient: Any) -> Any:
    """Return a gradient as a dense tensor, the rows of one id summed."""
    return tf.convert_to_tensor(gradient)


def mirror(tuner: Any) -> None:
    """Let the models of a KerasTuner tuner train on all devices, each with a copy of the weights and its part of every batch."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    tuner.distribution_strategy = tf.distribute.MirroredStrategy(devices)


def norms(gradients: Sequence[Any]) -> list[Any]:
    """Return the L2 norm of each gradient, in float32 at least."""
    return [tf.sqrt(2.0 * half) for half in _half_squares([sparse_values(g) for g in gradients])]


def largest(gradients: Sequence[Any]) -> list[Any]:
    """Return the largest size of a number in each gradient; what is not finite may count as anything."""
    # Their sizes in memory would cost more than a second reading; of no numbers the largest is -inf.
    values = [sparse_values(g) for g in gradients]
    return [tf.maximum(tf.reduce_max(v), -tf.reduce_min(v)) for v in values]


def joint_norm(gradients: Sequence[Any]) -> Any:
    """Return the L2 norm of all gradients taken as one vector, in float32 at least; NaN if one of their numbers is not finite."""
    tensors = [sparse_values(g) for g in gradients]
    norm = tf.sqrt(2.0 * tf.add_n(_half_squares(tensors)))

    def again() -> Any:
        # Squares overflow at 1.8e19: once more, scaled down. By what is known only then: XLA moves a constant factor out of the square of
        # a single number.
        wide = [tf.cast(t, norm.dtype) for t in tensors]
        largest = tf.reduce_max(tf.stack([tf.reduce_max(tf.abs(t)) for t in wide]))
        scaled = tf.sqrt(2.0 * tf.add_n(_half_squares([t / largest for t in wide])))
        return tf.where(tf.math.is_finite(largest), scaled * largest, np.nan)

    return tf.cond(tf.math.is_finite(norm), lambda: norm, again)


def _half_squares(tensors: Sequence[Any]) -> list[Any]:
    wide = tf.float64 if any(t.dtype == tf.float64 for t in tensors) else tf.float32
    # One operation, and no squares in memory.
    half_squares = _half_squares_in_quarters if _compiles_with_xla() else tf.nn.l2_loss
    return [half_squares(tf.cast(t, wide)) for t in tensors]


def _half_squares_in_quarters(tensor: Any) -> Any:
    """Return half the sum of squares, summed over four quarters at once: on a CPU XLA adds one number after the other."""
    count = tensor.shape.num_elements()
    if count is None or count < _FEW or count % 4:
        return tf.nn.l2_loss(tensor)
    quarters = tf.square(tf.reshape(tensor, [4, -1]))
    return 0.5 * tf.reduce_sum(quarters[0] + quarters[1] + quarters[2] + quarters[3])


def row_ids(gradient: Any) -> Any:
    """Return the ids of the rows that a sparse gradient stores; None if it is dense."""
    return gradient.indices if isinstance(gradient, tf.IndexedSlices) else None


def sparse_values(gradient: Any) -> Any:
    """Return the numbers that a gradient stores, without those that are zero because it is sparse."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `gradient` with other stored numbers."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


def outside_of_graphs() -> Any:
    """Return a context in which values are assigned at once, even where a graph is traced."""
    return tf.init_scope()


def replica_count() -> int:
    """Return how many replicas of a distribution strategy run this step; 1 outside of them."""
    return 1 if tf.distribute.in_cross_replica_context() else tf.distribute.get_strategy().num_replicas_in_sync


def in_replica() -> bool:
    """Return whether this step runs in a replica of a distribution strategy, be it the only one."""
    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def sum_over_replicas(tree: Any) -> Any:
    """Return each tensor of `tree` summed over the replicas of a distribution strategy."""
    if replica_count() == 1:
        return tree
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tree)


def cond(condition: Any, if_true: Callable[..., None], if_false: Callable[..., None], variables: Sequence[Any], *arguments: Any) -> Any:
    """Call one of two functions with `arguments`, by a condition that is the same on every replica; return it, None while traced.

    The functions may change `variables`, and sum over replicas: a condition inside a replica cannot hold such a sum, so that it stands
    outside, and each replica calls the function by itself.
    """

    def outside(strategy: Any, condition: Any, *arguments: Any) -> None:
        def run(function: Callable[..., None]) -> Callable[[], None]:
            return lambda: strategy.extended.call_for_each_replica(function, args=arguments)

        keras.ops.cond(strategy.experimental_local_results(condition)[0], run(if_true), run(if_false))

    if in_replica():
        tf.distribute.get_replica_context().merge_call(outside, args=(condition, *arguments))
    elif _compiles_with_xla():
        _choose_values(condition, if_true, if_false, variables, *arguments)
    else:
        tf.cond(condition, lambda: if_true(*arguments), lambda: if_false(*arguments))
    return bool(condition) if hasattr(condition, "numpy") and tf.executing_eagerly() else None


def _choose_values(condition: Any, if_true: Callable[..., None], if_false: Callable[..., None], variables: Any, *arguments: Any) -> None:
    """Do both, and pick each value as it is assigned: XLA fuses that into the steps.

    A condition around them costs copies, and so do values that are picked at the end, as those before them are then written too.
    """
    for holds, function in ((condition, if_true), (tf.logical_not(condition), if_false)):
        with contextlib.ExitStack() as stack:
            for v in variables:
                stack.enter_context(_assigning_where(holds, v.value if isinstance(v, keras.Variable) else v))
            function(*arguments)


@contextlib.contextmanager
def _assigning_where(condition: Any, variable: Any) -> Iterator[None]:
    """Let a variable keep its value where `condition` is False, whatever is assigned to it."""
    assign, update, add, subtract = (getattr(variable, name) for name in ("assign", "scatter_update", "scatter_add", "scatter_sub"))

    def rows(values: Any, old: Any) -> Any:
        return tf.IndexedSlices(tf.where(condition, values.values, old), values.indices, values.dense_shape)

    replaced = {
        "assign": lambda value, **how: assign(tf.where(condition, value, variable), **how),
        "assign_add": lambda value, **how: assign(tf.where(condition, variable + value, variable), **how),
        "assign_sub": lambda value, **how: assign(tf.where(condition, variable - value, variable), **how),
        "scatter_update": lambda value, **how: update(rows(value, tf.gather(variable, value.indices)), **how),
        "scatter_add": lambda value, **how: add(rows(value, tf.zeros_like(value.values)), **how),
        "scatter_sub": lambda value, **how: subtract(rows(value, tf.zeros_like(value.values)), **how),
    }
    # On the instance, whose own functions or those of its class show again afterwards.
    kept = {name: vars(variable).get(name) for name in replaced}
    vars(variable).update(replaced)
    try:
        yield
    finally:
        for name, function in kept.items():
            if function is None:
                del vars(variable)[name]
            else:
                vars(variable)[name] = function


def fail_in_graph(condition: Any, message: str, names: Sequence[str], marks: Sequence[Any]) -> None:
    """Let the graph that is traced fail where `condition` holds, with `message` about the marked names; XLA cannot, and does not."""
    if tf.executing_eagerly() or _compiles_with_xla():
        return
    marked = tf.strings.reduce_join(tf.boolean_mask(tf.constant(list(names)), tf.stack(list(marks))), separator=", ")
    before, after = message.split("{}")
    text = tf.strings.join([before, marked, after])
    tf.debugging.Assert(tf.logical_not(condition), [text])


def compile_probe(
    forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any], is_traced: bool = False, many: int | None = None
) -> Callable[..., Any]:
    """Compile `forward(trainable, other, data) -> loss, outputs` and `reduce(loss, gradients, trainable, outputs) -> vector, tensors`.

    Returns a function of the lists of variables and the data; it differentiates the loss by `trainable`, and returns the vector as NumPy
    and the tensors as they are. XLA takes longer to compile them than hundreds of calls take: it does so after `many`, if it can.
    """

    def both(trainable: list[Any], other: list[Any], data: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trainable)
            loss, outputs = forward(trainable, other, data)
        gradients = tape.gradient(loss, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return reduce(loss, [tf.convert_to_tensor(g) for g in gradients], trainable, outputs)

    run = tf.function(both, autograph=False)  # as Keras's own steps
    calls = 0

    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        nonlocal run, calls

        calls += 1
        arguments = tensorflow_steps.copies(trainable), tensorflow_steps.copies(other), data
        if calls == many:
            by_xla = tf.function(both, autograph=False, jit_compile=True)
            with contextlib.suppress(tf.errors.OpError):
                by_xla(*arguments)
                run = by_xla
        vector, tensors = run(*arguments)
        return vector.numpy(), tensors

    return probe
