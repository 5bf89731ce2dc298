"""The functions that need JAX itself."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.custom_batching
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from jax.experimental import sparse
from keras import ops

from keras_ext._backend import jax_programs, jax_steps


def prepare_devices() -> None:
    """Do nothing: how JAX takes a GPU's memory is set by XLA_PYTHON_CLIENT_PREALLOCATE before it starts."""


def device_name() -> str:
    """Return the name of the device that computations go to."""
    device = jax.devices()[0]
    return "CPU" if device.platform == "cpu" else f"{device.platform.upper()} {device.device_kind}"


def trials_remembered() -> int:
    """Return how many trials a search runs before what they compiled is forgotten."""
    # Each holds some 14 MiB for the smallest networks; the programs that all have in common come from disk again, or are compiled, which
    # takes 3 to 4 s in a search over multilayer perceptrons.
    return 5


def forget_programs() -> None:
    """Let go of all that JAX compiled: it keeps the programs of models that are gone, too. What is used again is compiled again."""
    jax.clear_caches()


def programs_on_disk() -> contextlib.AbstractContextManager[None]:
    """Return a context in which what is compiled is kept on disk, so that what is forgotten need not be compiled again."""
    return jax_programs.kept_on_disk()


def step_programs() -> Any:
    """Return the module of programs of several training steps."""
    return jax_steps


def random_state() -> None:
    """Return None: JAX has no random state of its own."""


def set_random_state(state: Any) -> None:
    """Do nothing: see `random_state`."""


def wait(tree: Any) -> None:
    """Return once every array in `tree` has been computed."""
    jax.block_until_ready(tree)


def random_bytes(count: Any, seed: Any) -> Any:
    """Return `count` random bytes for the two integers of `seed` (Threefry, Salmon et al. 2011, in XLA's own form)."""

    # XLA's generator draws otherwise for several seeds at once.
    @jax.custom_batching.sequential_vmap
    def words_of(seed: Any) -> Any:
        state = jnp.concatenate([seed.astype(jnp.uint32), jnp.zeros(2, jnp.uint32)])
        return lax.rng_bit_generator(state, ((count + 3) // 4,), dtype=jnp.uint32, algorithm=lax.RandomAlgorithm.RNG_THREE_FRY)[1]

    return lax.bitcast_convert_type(words_of(seed), jnp.uint8).reshape(-1)[:count]


def drop(x: Any, keep: Any, scale: Any) -> Any:
    """Return `x * scale` where `keep`, and 0 elsewhere."""

    @jax.custom_jvp
    def dropped(x: Any, keep: Any, scale: Any) -> Any:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.where(keep & (scale > 0), x.astype(wide) * scale.astype(wide), 0).astype(x.dtype)

    # Linear in `x`: JAX then keeps the mask alone for the backward pass.
    @dropped.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return dropped(*primals), dropped(tangents[0], *primals[1:])

    return dropped(x, keep, scale)


def fused_batch_norm(x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> None:
    """Return None: XLA fuses what it is given, and has no kernel of its own that keeps an offset from swallowing the variance."""


def updates_of_lists(together: bool = False) -> None:
    """Return None: XLA compiles the steps of all weights together."""


def sum_repeated_rows(gradient: Any) -> Any:
    """Gather the rows of a sparse gradient that carry the same id into one; the rows' number stays as it was."""
    return gradient.sum_duplicates(nse=gradient.nse) if isinstance(gradient, sparse.BCOO) else gradient


def row_sums(gradient: Any) -> tuple[Any, Any] | None:
    """Return the ids of a sparse gradient and for each the sum of its rows; ids beyond the last fill up."""
    if not isinstance(gradient, sparse.BCOO):
        return None
    summed = gradient.sum_duplicates(nse=gradient.nse)
    return summed.indices[:, 0], summed.data


def take_rows(variable: Any, ids: Any) -> Any:
    """Return the rows `ids` of a variable; for ids beyond the last, the last."""
    return jnp.take(ops.convert_to_tensor(variable), ids, axis=0, mode="clip")


def put_rows(optimizer: Any, variable: Any, ids: Any, old: Any, new: Any) -> None:
    """Move the rows `ids` of a variable from `old` to `new`; ids beyond the last are left out."""
    optimizer.assign_add(variable, sparse.BCOO((new - old, ids[:, None]), shape=variable.shape))


def with_rows(tensor: Any, ids: Any, rows: Any) -> Any:
    """Return `tensor` with other rows at `ids`; ids beyond the last are left out."""
    return tensor.at[ids].set(rows, mode="drop")


def dense(gradient: Any) -> Any:
    """Return a gradient as a dense array, the rows of one id summed."""
    return gradient.todense() if isinstance(gradient, sparse.BCOO) else gradient


def mirror(tuner: Any) -> None:
    """Let models train on all devices, each with a copy of the weights and its part of every batch."""
    keras.distribution.set_distribution(keras.distribution.DataParallel())


def norms(gradients: Sequence[Any]) -> list[Any]:
    """Return the L2 norm of each gradient, in float32 at least."""
    return [jnp.sqrt(jnp.sum(jnp.square(t))) for t in map(_wide, gradients)]


def largest(gradients: Sequence[Any]) -> list[Any]:
    """Return the largest size of a number in each gradient; what is not finite may count as anything."""
    return [jnp.max(jnp.abs(t), initial=0.0) for t in gradients]


def joint_norm(gradients: Sequence[Any]) -> Any:
    """Return the L2 norm of all gradients taken as one vector, in float32 at least; NaN if one of their numbers is not finite."""
    wide = [_wide(g) for g in gradients]
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(t)) for t in wide))

    def again() -> Any:
        # Squares overflow at 1.8e19: once more, scaled down. By what is known only then: XLA moves a constant factor out of the square of
        # a single number.
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(t), initial=0.0) for t in wide]))
        scaled = jnp.sqrt(sum(jnp.sum(jnp.square(t / largest)) for t in wide))
        return jnp.where(jnp.isfinite(largest), scaled * largest, jnp.nan)

    return lax.cond(jnp.isfinite(norm), lambda: norm, again)


def _wide(gradient: Any) -> Any:
    values = sparse_values(gradient)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def row_ids(gradient: Any) -> Any:
    """Return the ids of the rows that a sparse gradient stores; None if it is dense."""
    return gradient.indices[:, 0] if isinstance(gradient, sparse.BCOO) else None


def sparse_values(gradient: Any) -> Any:
    """Return the numbers that a gradient stores, without those that are zero because it is sparse."""
    return gradient.data if isinstance(gradient, sparse.BCOO) else gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `gradient` with other stored numbers."""
    if isinstance(gradient, sparse.BCOO):
        return sparse.BCOO((values, gradient.indices), shape=gradient.shape)
    return values


def outside_of_graphs() -> Any:
    """Return a context that does nothing."""
    return contextlib.nullcontext()


def replica_count() -> int:
    """Return 1: on JAX one program spans the devices, and its sums are over all of them."""
    return 1


def in_replica() -> bool:
    """Return False: see `replica_count`."""
    return False


def sum_over_replicas(tree: Any) -> Any:
    """Return `tree`: see `replica_count`."""
    return tree


def cond(condition: Any, if_true: Callable[..., None], if_false: Callable[..., None], variables: Sequence[Any], *arguments: Any) -> Any:
    """Call one of two functions; traced, both, as TensorFlow does under XLA."""
    if not isinstance(condition, jax.core.Tracer):
        (if_true if bool(condition) else if_false)(*arguments)
        return bool(condition)
    for holds, function in ((condition, if_true), (jnp.logical_not(condition), if_false)):
        with _AssigningWhere(holds, variables) as scope:
            function(*arguments)
        for v in variables:
            v.assign(scope.get_current_value(v))
    return None


class _AssigningWhere(keras.StatelessScope):
    """Lets variables keep their values where `condition` is False, whatever is assigned to them."""

    def __init__(self, condition: Any, variables: Sequence[Any]) -> None:
        super().__init__(state_mapping=[(v, v.value) for v in variables])
        self._condition = condition

    def add_update(self, update: Any) -> None:
        variable, value = update
        super().add_update((variable, jnp.where(self._condition, value, self.get_current_value(variable))))


def fail_in_graph(condition: Any, message: str, names: Sequence[str], marks: Sequence[Any]) -> None:
    """Do nothing: what is compiled cannot fail."""


def compile_probe(
    forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any], is_traced: bool = False, many: int | None = None
) -> Callable[..., Any]:
    """Compile `forward` and `reduce`, at the first call for the shapes that there are then, and again with more care after `many` calls."""

    @jax.jit
    def run(trainable: list[Any], other: list[Any], data: Any) -> Any:
        (loss, outputs), gradients = jax.value_and_grad(forward, has_aux=True)(trainable, other, data)
        return reduce(loss, gradients, trainable, outputs)

    compiled: Any = None
    calls = 0

    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        nonlocal compiled, calls
        calls += 1
        arguments = [v.value for v in trainable], [v.value for v in other], data
        if compiled is None:
            compiled = _compile_soon(run.trace(*arguments))
        if calls == many:
            compiled = run
        try:
            vector, tensors = compiled(*arguments)
        except (TypeError, ValueError):
            # Fit has laid the weights out again, over several devices; or JAX 0.10 miscounts the constants that the model closes over.
            compiled = run
            vector, tensors = compiled(*arguments)
        return np.asarray(vector), tensors

    return probe


# A snapshot runs some ten times: on a CPU, XLA otherwise takes longer to make it fast than all its runs take. These options are XLA's own,
# and may go. Without its new emitters it compiles a third faster, to programs as fast; without optimisation twice as fast again, to
# programs that are two times slower, which ten runs that move little do not feel. Convolutions are then 20 times slower.
_QUICKLY = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}
_SOON = {"xla_cpu_use_fusion_emitters": False, "xla_llvm_disable_expensive_passes": True}
# Numbers that a program makes on its way.
_LITTLE = 2**25


def _compile_soon(traced: Any) -> Any:
    """Compile what `jax.jit(...).trace` gave, with less care than usual on a CPU."""
    if jax.default_backend() == "cpu":
        made = sum(math.prod(v.aval.shape) for equation in traced.jaxpr.eqns for v in equation.outvars)
        is_little = made < _LITTLE and not _convolves(traced.jaxpr)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return traced.lower().compile(compiler_options=_QUICKLY if is_little else _SOON)
    return traced.lower().compile()


def _convolves(jaxpr: Any) -> bool:
    """Return whether a program, or one that it calls, has a convolution."""
    for equation in jaxpr.eqns:
        called = [getattr(part, "jaxpr", part) for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)]
        if equation.primitive.name == "conv_general_dilated" or any(_convolves(each) for each in called if hasattr(each, "eqns")):
            return True
    return False


def _is_program(part: Any) -> bool:
    return hasattr(part, "jaxpr") or hasattr(part, "eqns")
