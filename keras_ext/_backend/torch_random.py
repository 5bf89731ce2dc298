"""Random bytes from a seed on PyTorch, and masks of Keras's dropout, drawn at once or as one kernel of a program."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from keras_ext._backend import torch_waiting

# Of SplitMix64: the step from word to word and another for a second seed; the shift and the factor of each round.
_STEPS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def draw_bytes(count: Any, seed: Any) -> Any:
    """Return `count` random bytes for the two integers of `seed`."""
    if not torch_waiting.is_at_hand(seed):
        return _hashed(count, seed)
    first, second = seed.tolist()
    generator = torch.Generator(device=seed.device)
    # The CPU's generator takes 32 bits: the pair is mixed (Steele, Lea and Flood 2014). Keras adds the two, so that close seeds meet.
    mixed = (first * _STEPS[0] + second * _STEPS[1]) % 2**64
    for shift, factor in _ROUNDS:
        mixed = (mixed ^ mixed >> shift) * factor % 2**64
    generator.manual_seed((mixed ^ mixed >> 31) >> 1)
    words = torch.empty((count + 7) // 8, dtype=torch.int64, device=seed.device)
    return words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:count]


def _hashed(count: int, seed: torch.Tensor) -> torch.Tensor:
    """Return `count` bytes of SplitMix64 (Steele, Lea and Flood 2014): a generator would wait for the numbers of its seed."""
    first, second = seed.to(torch.int64).unbind()
    start = _mixed(first * _signed(_STEPS[0]) + second * _signed(_STEPS[1]))
    steps = torch.arange(1, (count + 7) // 8 + 1, dtype=torch.int64, device=seed.device)
    return _mixed(start + steps * _signed(_STEPS[0])).view(torch.uint8)[:count]


def _mixed(z: torch.Tensor) -> torch.Tensor:
    for shift, factor in _ROUNDS:
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    return z ^ _shifted(z, 31)


def _shifted(z: torch.Tensor, places: int) -> torch.Tensor:
    # PyTorch's shift repeats the sign.
    return (z >> places) & (2 ** (64 - places) - 1)


def _signed(number: int) -> int:
    return number - 2**64


# What draws from a generator cannot be traced: to a program it is one kernel, which draws for each model from its own seed.
@torch.library.custom_op("keras_ext::random_bytes", mutates_args=())
def traced_random_bytes(seeds: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` random bytes for each row of `seeds`, as `random_bytes` draws them for one."""
    return torch.stack([draw_bytes(count, seed) for seed in seeds])


@traced_random_bytes.register_fake
def _(seeds: torch.Tensor, count: int) -> torch.Tensor:
    return seeds.new_empty((len(seeds), count), dtype=torch.uint8)


@traced_random_bytes.register_vmap
def _(info: Any, in_dims: Any, seeds: torch.Tensor, count: int) -> Any:
    of_models = seeds.movedim(in_dims[0], 0)
    return traced_random_bytes(of_models.reshape(-1, 2), count).reshape(*of_models.shape[:-1], count), 0


_generators: Sequence[torch.Generator] = ()


@contextlib.contextmanager
def drawing_from(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Let each model of a program draw from a generator of its own while the block runs."""
    global _generators
    _generators, kept = generators, _generators
    try:
        yield
    finally:
        _generators = kept


def dropout(inputs: torch.Tensor, rate: float) -> torch.Tensor:
    """Return the `inputs` of one of several models as `torch.nn.functional.dropout` does in a training step on a CPU."""
    return inputs * _mask(inputs.detach(), 1 - rate).div(1 - rate)


@torch.library.custom_op("keras_ext::dropout_mask", mutates_args=())
def _mask(inputs: torch.Tensor, share: float) -> torch.Tensor:
    """Return ones in so large a share of the places, for each row of `inputs` from its own generator."""
    return torch.stack([torch.empty_like(row).bernoulli_(share, generator=g) for row, g in zip(inputs, _generators, strict=True)])


@_mask.register_fake
def _(inputs: torch.Tensor, share: float) -> torch.Tensor:
    return inputs.new_empty(inputs.shape)


@_mask.register_vmap
def _(info: Any, in_dims: Any, inputs: torch.Tensor, share: float) -> Any:
    return _mask(inputs.movedim(in_dims[0], 0), share), 0
