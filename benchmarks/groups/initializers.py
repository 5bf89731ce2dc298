"""The time of drawing first weights: an initializer made and called once, as a layer does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from benchmarks.measuring import measure
from benchmarks.measuring.figure import Case, Figure
from keras_ext import initializers
from keras_ext._backend import wait

Make = Callable[[], Any]


@dataclass(frozen=True)
class Draw:
    """One weight: ours and Keras's initializer, and how the case is called."""

    part: str
    text: str
    shape: tuple[int, ...]
    ours: Make
    keras: Make


def named(name: str, shape: tuple[int, ...], **arguments: Any) -> Draw:
    """Return the draw of a weight of `shape` by the initializers of that name."""
    text = " x ".join(map(str, shape))
    return Draw(
        name, text, shape, partial(getattr(initializers, name), seed=1, **arguments), partial(getattr(keras.initializers, name), seed=1)
    )


def _heads(features: int, heads: int, size: int) -> Draw:
    """Keras draws one orthogonal matrix of all heads together; ours are orthogonal each."""
    one_each = {"input_axes": [0], "output_axes": [2]}
    draw = named("Orthogonal", (features, heads, size), **one_each)
    return Draw(draw.part, f"{heads} heads of {features} x {size}", draw.shape, draw.ours, draw.keras)


def draws(small: bool) -> list[Draw]:
    """Return what is measured."""
    big, window = (8, 3) if small else (4096, 512)
    return [
        named("HeNormal", (big, big)),
        named("GlorotUniform", (3, 3, window, window)),
        named("HeNormal", (8, 8)),
        named("Orthogonal", (big, big)),
        _heads(4, 2, 2) if small else _heads(1024, 16, 64),
    ]


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each draw."""
    for draw in draws(effort.small):
        yield Case(f"{draw.part} {draw.text}", partial(compare, draw, effort))


def compare(draw: Draw, effort: measure.Effort) -> Figure:
    """Return the time of drawing one weight over that of Keras's initializer."""
    steps = {"ours": lambda: draw.ours()(draw.shape), "keras": lambda: draw.keras()(draw.shape)}
    seconds = measure.interleave(measure.samples(steps, wait, effort), effort)
    return Figure.of(
        part=draw.part,
        case=draw.text,
        mode="eager",
        ours=seconds["ours"],
        keras=seconds["keras"],
    )
