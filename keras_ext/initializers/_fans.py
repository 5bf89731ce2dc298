"""The meaning of a weight's shape: which of its axes are inputs, which outputs, and which only count matrices that stand side by side."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_ext._checks import bad_argument, integer, items, keep, one_of

KINDS = ("dense", "conv", "depthwise", "conv_transpose", "embedding", "recurrent", "einsum")
_GROUPED = (None, "conv", "recurrent")
_WITH_WINDOW = ("conv", "depthwise", "conv_transpose")


class Axes(NamedTuple):
    """A weight as a stack of matrices.

    shape: that of the weight, its last axis cut into groups where there are some.
    window: axes of a convolution's window.
    inputs, outputs: axes that one output sums over, and that one input feeds, without the window; the rest count matrices.
    taps: share of the window's positions that meet in one output: a transposed convolution spreads them over its strides.
    spread: share of the window's positions in which one input takes part: strides step over the rest.
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    taps: float = 1.0
    spread: float = 1.0

    def size(self, axes: Sequence[int]) -> int:
        """Return how many positions these axes have together."""
        return math.prod([self.shape[i] for i in axes])

    @property
    def fan_in(self) -> float:
        """How many inputs feed one output."""
        return _plain(self.size(self.window + self.inputs) * self.taps)

    @property
    def fan_out(self) -> float:
        """How many outputs one input feeds."""
        return _plain(self.size(self.window + self.outputs) * self.spread)

    @property
    def matrices(self) -> tuple[int, ...]:
        """The axes that count matrices."""
        return tuple(i for i in range(len(self.shape)) if i not in self.window + self.inputs + self.outputs)


def _plain(fan: float) -> float:
    return int(fan) if fan == int(fan) else fan


@dataclass(frozen=True)
class Reading:
    """How an initializer reads shapes; the arguments, and what they raise, are those of `VarianceScaling`."""

    kind: str | None = None
    groups: int = 1
    strides: int | Sequence[int] = 1
    input_axes: Sequence[int] | None = None
    output_axes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        keep(self, input_axes=_axes("input_axes", self.input_axes), output_axes=_axes("output_axes", self.output_axes))
        one_of("kind", self.kind, (None, *KINDS))
        keep(self, groups=integer("groups", self.groups, fix="It counts a convolution's groups, or the gates of a recurrent kernel."))
        several = items(self.strides)
        strides = integer("strides", self.strides) if several is None else tuple(integer("strides", stride) for stride in several)
        keep(self, strides=strides)
        if (self.kind, self.groups, self.strides) == (None, 1, 1):
            return
        # Orthogonal calls them `blocks`.
        if self.groups > 1 and (self.input_axes is not None or self.output_axes is not None):
            fix = "Leave the axis that counts them out of both."
            raise bad_argument("groups or blocks", "1 with `input_axes` and `output_axes`", self.groups, fix)
        if self.groups > 1 and self.kind not in _GROUPED:
            raise bad_argument("groups", f"1 unless `kind` is one of {', '.join(map(repr, _GROUPED))}", self.groups)
        if self.strides != 1 and self.kind not in _WITH_WINDOW:
            raise bad_argument("strides", f"1 unless `kind` is one of {', '.join(map(repr, _WITH_WINDOW))}", self.strides)
        if self.kind not in (None, "einsum") and (self.input_axes is not None or self.output_axes is not None):
            fix = "EinsumDense and MultiHeadAttention set the axes of their kernels themselves."
            raise bad_argument("kind", "None or 'einsum' with `input_axes` and `output_axes`", self.kind, fix)

    def of(self, shape: Sequence[int]) -> Axes:
        """Return the axes of a weight of this shape."""
        shape = tuple(shape)
        rank = len(shape)
        if self.input_axes is not None and self.output_axes is not None:
            for name, axes in (("input_axes", self.input_axes), ("output_axes", self.output_axes)):
                if any(not -rank <= axis < rank for axis in axes):
                    raise ValueError(f"`{name}` must be axes of the weight, got {list(axes)} for a weight of shape {shape}.")
            return Axes(shape, (), tuple(a % rank for a in self.input_axes), tuple(a % rank for a in self.output_axes))
        if self.kind is None and rank < 2 and self.groups == 1:
            # Keras's reading: a vector has as many inputs as outputs.
            return Axes(shape, (), tuple(range(rank)), tuple(range(rank)))
        if self.kind == "einsum":
            raise bad_argument("input_axes", "given, and `output_axes` too, with kind='einsum'", self.input_axes)
        least = 3 if self.kind in _WITH_WINDOW else 2
        # By Keras's reading what is no matrix is a convolution's kernel.
        most = rank if self.kind in (None, *_WITH_WINDOW) else 2
        if not least <= rank <= most:
            axes = "3 axes or more" if self.kind in _WITH_WINDOW else "2 axes"
            raise ValueError(
                f"A weight of kind {self.kind!r} must have {axes}, got one of shape {shape}. Leave `kind` out, or name another."
            )
        window = tuple(range(rank - 2))
        share = self._share_of(window)
        if self.kind == "depthwise":
            return Axes(shape, window, (), (rank - 1,), spread=share)
        if self.kind == "conv_transpose":
            return Axes(shape, window, (rank - 1,), (rank - 2,), taps=share)
        if self.kind == "embedding":
            return Axes(shape, (), (), (1,))
        if shape[-1] % self.groups:
            raise ValueError(f"A weight of shape {shape} cannot be cut into {self.groups} alike on its last axis: take a divisor of it.")
        if self.groups > 1:
            return Axes((*shape[:-1], self.groups, shape[-1] // self.groups), window, (rank - 2,), (rank,), spread=share)
        return Axes(shape, window, (rank - 2,), (rank - 1,), spread=share)

    def _share_of(self, window: tuple[int, ...]) -> float:
        """Return the share of the window that strides leave, on average over the positions."""
        strides = self.strides if isinstance(self.strides, Sequence) else (self.strides,) * len(window)
        if len(strides) != len(window):
            raise bad_argument("strides", f"a whole number, or {len(window)} of them for this weight", self.strides)
        return 1 / math.prod(strides)


def _axes(name: str, axes: Any) -> tuple[int, ...] | None:
    """Return axes as a tuple; None stays None."""
    if axes is None:
        return None
    found = items(axes)
    if found is None or any(not isinstance(a, numbers.Integral) or isinstance(a, bool) for a in found):
        raise bad_argument(name, "a list of axes, or None", axes)
    return tuple(int(a) for a in found)
