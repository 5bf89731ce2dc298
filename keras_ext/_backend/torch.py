"""The functions that need PyTorch itself."""

# torch.optim and Keras use `torch._foreach_...` too; the type stubs call them private all the same.
# pyright: reportPrivateImportUsage=false

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from keras import ops

from keras_ext._backend import torch_random, torch_steps, torch_tracing, torch_updates, torch_waiting


def prepare_devices() -> None:
    """Do nothing: PyTorch takes a GPU's memory as it needs it."""


def device_name() -> str:
    """Return the name of the device that computations go to."""
    if torch.cuda.is_available():
        return "GPU " + torch.cuda.get_device_name(0)
    return "GPU Apple" if torch.backends.mps.is_available() else "CPU"


def trials_remembered() -> int:
    """Return how many trials a search runs before what they left is forgotten: here `forget_programs` does nothing."""
    return 1


def forget_programs() -> None:
    """Do nothing: what is compiled at all, Keras's `clear_session` forgets, which KerasTuner calls before each model."""


def programs_on_disk() -> contextlib.AbstractContextManager[None]:
    """Return a context that does nothing: what PyTorch compiles, it keeps on disk itself."""
    return contextlib.nullcontext()


def step_programs() -> Any:
    """Return the module of programs of several training steps."""
    return torch_steps


def random_state() -> Any:
    """Return the states of PyTorch's random generators."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def set_random_state(state: Any) -> None:
    """Bring the states of the random generators back."""
    of_cpu, of_devices = state
    torch.set_rng_state(of_cpu)
    if of_devices:
        torch.cuda.set_rng_state_all(of_devices)


def wait(tree: Any) -> None:
    """Return once every tensor in `tree` has been computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@torch.compiler.disable
def random_bytes(count: Any, seed: Any) -> Any:
    """Return `count` random bytes for the two integers of `seed`, from a generator of the device that Keras uses."""
    if seed.device.type == "meta":
        return torch.empty(count, dtype=torch.uint8, device=seed.device)
    return torch_random.traced_random_bytes(seed[None], count)[0] if torch_tracing.is_stacking() else torch_random.draw_bytes(count, seed)


def drop(x: Any, keep: Any, scale: Any) -> Any:
    """Return `x * scale` where `keep`, and 0 elsewhere."""
    return _Drop.apply(x, keep, scale)


class _Drop(torch.autograd.Function):
    """Keeps the mask for the way back in one byte an element."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any, keep: Any, scale: Any) -> Any:
        wide = torch.promote_types(x.dtype, torch.float32)
        return torch.where(keep, x.to(wide), torch.zeros((), dtype=wide, device=x.device)).mul_(scale).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, keep, scale = inputs
        ctx.save_for_backward(keep)
        ctx.scale = scale

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        return _Drop.apply(upstream[0], *ctx.saved_tensors, ctx.scale), None, None


def fused_batch_norm(x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> tuple[Any, Any, Any]:
    """Return the normalised `x`, its mean and its biased variance.

    The kernel of the GPU (Welford 1962) is right at any offset, and so is what `torch.compile` makes of it; the CPU's sums the values
    themselves, so where a mean is more than 10 standard deviations, the statistics are taken again of what is left without it.
    """
    count = x.numel() // x.shape[axis]
    # Channels after the batch, which is where the kernel takes them; last in memory they may stay.
    view = x.movedim(axis, 1)
    if axis == 0:
        view = x.reshape(1, x.shape[0], -1)
    elif x.ndim > 2 and axis == x.ndim - 1 and x.shape[axis] < _FEW_CHANNELS:
        view = view.contiguous()
    if torch_tracing.is_stacking():
        y, mean, variance = _by_autograd(view, gamma, beta, epsilon)
        return (y.reshape(x.shape) if axis == 0 else y.movedim(1, axis)), mean, variance
    y, mean, variance = _native(view, gamma, beta, epsilon, count)
    eager = torch_waiting.is_at_hand(x) and not torch.compiler.is_compiling()
    if eager and bool((mean.square() > 100.0 * (variance + epsilon)).any()):
        shape = [1] * view.ndim
        shape[1] = -1
        # To float32 first: less its mean a half is exact.
        y, rest, variance = _native(view.to(mean.dtype) - mean.view(shape), gamma, beta, epsilon, count)
        y, mean = y.to(x.dtype), mean + rest
    return (y.reshape(x.shape) if axis == 0 else y.movedim(1, axis).contiguous()), mean, variance


# Fewer channels than this, last in memory, and the CPU's kernel is slower than a copy: its loop runs along the channels.
_FEW_CHANNELS = 16


def _native(view: Any, gamma: Any, beta: Any, epsilon: float, count: int) -> tuple[Any, Any, Any]:
    """Return what PyTorch's kernel makes of `view`, channels on axis 1, and the mean and biased variance that it took."""
    dtype = torch.promote_types(view.dtype, torch.float32)
    mean, unbiased = (torch.zeros(view.shape[1], dtype=dtype, device=view.device) for _ in range(2))
    y, _, _ = torch.native_batch_norm(view, gamma, beta, mean, unbiased, True, 1.0, epsilon)
    # One value has no unbiased variance.
    return y, mean, unbiased * ((count - 1) / count) if count > 1 else torch.zeros_like(mean)


def _by_autograd(view: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return what `_native` does, in operations that `vmap` knows."""
    wide, axes = view.to(gamma.dtype), [0, *range(2, view.ndim)]
    shape = [-1 if i == 1 else 1 for i in range(view.ndim)]
    mean = wide.mean(axes)
    centred = wide - mean.view(shape)
    variance = centred.square().mean(axes)
    y = centred * ((variance + epsilon).rsqrt() * gamma).view(shape) + beta.view(shape)
    return y.to(view.dtype), mean.detach(), variance.detach()


def updates_of_lists(together: bool = False) -> Any:
    """Return the optimizers' steps for lists of weights, of which a kernel takes all at once; None where `vmap` needs one by one."""
    return None if torch_tracing.is_stacking() else torch_updates


def sum_repeated_rows(gradient: Any) -> Any:
    """Return `gradient`: Keras's embedding gradients are dense on PyTorch."""
    return gradient


def row_sums(gradient: Any) -> None:
    """Return None: see `has_sparse_gradients`."""


def take_rows(variable: Any, ids: Any) -> Any:
    """Return the rows `ids` of a variable."""
    return ops.take(variable, ids, axis=0)


def put_rows(optimizer: Any, variable: Any, ids: Any, old: Any, new: Any) -> None:
    """Set the rows `ids` of a variable from `old` to `new`."""
    optimizer.assign(variable, ops.scatter_update(variable, ops.expand_dims(ids, -1), new))


def with_rows(tensor: Any, ids: Any, rows: Any) -> Any:
    """Return `tensor` with other rows at `ids`; where an id repeats, so does its row."""
    return ops.scatter_update(tensor, ops.expand_dims(ids, -1), rows)


def dense(gradient: Any) -> Any:
    """Return `gradient`: see `sum_repeated_rows`."""
    return gradient


def mirror(tuner: Any) -> None:
    """Raise an error: Keras's PyTorch backend trains a model on one device."""
    raise ValueError("Keras's PyTorch backend trains a model on one device: no strategy spreads it over several.")


def norms(gradients: Sequence[Any]) -> list[Any]:
    """Return the L2 norm of each gradient, in float32 at least."""
    return list(torch._foreach_norm(_wide(gradients)))


def largest(gradients: Sequence[Any]) -> list[Any]:
    """Return the largest size of a number in each gradient; what is not finite may count as anything."""
    found = []
    for values in gradients:
        # Their sizes in memory would cost more than all else.
        low, high = torch.aminmax(values) if values.numel() else (values.new_zeros(()),) * 2
        found.append(torch.maximum(high, -low))
    return found


def joint_norm(gradients: Sequence[Any]) -> Any:
    """Return the L2 norm of all gradients taken as one vector, in float32 at least; NaN if one of their numbers is not finite."""
    norm = torch.linalg.vector_norm(torch.stack(norms(gradients)))
    if not torch_tracing.is_stacking() and torch_waiting.is_at_hand(norm) and bool(torch.isfinite(norm)):
        return norm
    # Squares overflow at 1.8e19: once more, scaled down.
    scaled = torch.linalg.vector_norm(torch.stack(norms(torch._foreach_mul(_wide(gradients), 2.0**-64))))
    again = torch.where(torch.isfinite(scaled), scaled * 2.0**64, torch.nan)
    return torch.where(torch.isfinite(norm), norm, again)


def _wide(tensors: Sequence[Any]) -> list[Any]:
    return [t.detach() if t.dtype in (torch.float32, torch.float64) else t.detach().float() for t in tensors]


def row_ids(gradient: Any) -> None:
    """Return None: see `sum_repeated_rows`."""


def sparse_values(gradient: Any) -> Any:
    """Return `gradient`: see `sum_repeated_rows`."""
    return gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `values`: see `sum_repeated_rows`."""
    return values


def outside_of_graphs() -> Any:
    """Return a context that does nothing."""
    return contextlib.nullcontext()


def replica_count() -> int:
    """Return 1: PyTorch's data parallelism sums the gradients before the optimizer sees them."""
    return 1


def in_replica() -> bool:
    """Return False: see `replica_count`."""
    return False


def sum_over_replicas(tree: Any) -> Any:
    """Return `tree`: see `replica_count`."""
    return tree


def cond(condition: Any, if_true: Callable[..., None], if_false: Callable[..., None], variables: Sequence[Any], *arguments: Any) -> Any:
    """Call one of two functions; traced for several models, both, each of which acts where it is the one."""
    if torch_tracing.is_stacking():
        torch_tracing.cond_of_both(condition, lambda: if_true(*arguments), lambda: if_false(*arguments), variables)
        return None
    holds = bool(condition)
    (if_true if holds else if_false)(*arguments)
    return holds


def fail_in_graph(condition: Any, message: str, names: Sequence[str], marks: Sequence[Any]) -> None:
    """Do nothing: there is no graph."""


def compile_probe(
    forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any], is_traced: bool = False, many: int | None = None
) -> Callable[..., Any]:
    """Join `forward` and `reduce`: eagerly, as Keras runs on PyTorch by default, or traced. More care after `many` calls has no use."""

    def both(leaves: list[Any], others: list[Any], data: Any) -> Any:
        leaves = [leaf.detach().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
        with torch.enable_grad():
            loss, outputs = forward(leaves, others, data)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
        with torch.no_grad():
            gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, leaves, strict=True)]
            return reduce(loss, gradients, leaves, outputs)

    run = torch_tracing.traced(both) if is_traced else both

    # What draws from PyTorch's own generator (recurrent dropout of Keras, a user's layer) must not move it.
    @torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        vector, tensors = run([v.value.detach() for v in trainable], [v.value.detach() for v in other], data)
        # Copied, as a view of a weight would change with it.
        return vector.detach().cpu().numpy(), [t.detach().clone() for t in tensors]

    return probe
