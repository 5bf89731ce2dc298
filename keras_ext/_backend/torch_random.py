"""Random bytes from a seed on PyTorch, drawn at once or as one kernel of a program."""

from typing import Any

import torch


def draw_bytes(count: Any, seed: Any) -> Any:
    """Return `count` random bytes for the two integers of `seed`."""
    first, second = seed.tolist()
    generator = torch.Generator(device=seed.device)
    # The CPU's generator takes 32 bits: the pair is mixed (Steele, Lea and Flood 2014). Keras adds the two, so that close seeds meet.
    mixed = (first * 0x9E3779B97F4A7C15 + second * 0xD1B54A32D192ED03) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    generator.manual_seed((mixed ^ mixed >> 31) >> 1)
    words = torch.empty((count + 7) // 8, dtype=torch.int64, device=seed.device)
    return words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:count]


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
