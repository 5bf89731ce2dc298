"""Orthogonal weights (Saxe et al. 2014), in blocks for gates and heads, and as convolutions that keep the norm (Xiao et al. 2018)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, integer
from keras_ext._config import config_of
from keras_ext.initializers._draws import Draws, checked_seed
from keras_ext.initializers._fans import Axes, Reading
from keras_ext.initializers.gains import as_number, checked_gain


@keras.saving.register_keras_serializable(package="keras_ext")
class Orthogonal(keras.initializers.Orthogonal, Draws):
    """Draw `gain` times a matrix with orthonormal rows or columns, uniformly over all such matrices.

    A weight of more than two axes is read as the matrix `(product of all axes but the last, last axis)`. Tall matrices get orthonormal
    columns, wide ones orthonormal rows. Drop-in for `keras.initializers.Orthogonal`; the factorisation is float32 under every dtype, and
    cast last (Keras asks for one in bfloat16, which no backend has).

    The kernel of an LSTM is four matrices side by side, that of an attention layer one for each head. Read as one, none of them need be
    orthogonal by itself. `blocks` and the axes say so, or `initialize(model, Orthogonal())` finds it out.

    Args:
        gain: factor of the matrix, any finite number, or an activation's name, see `calculate_gain`.
        seed: int, `keras.random.SeedGenerator` or None. With an int or None each call gives the same numbers, as in Keras; a second call
            for the same shape warns, once.
        blocks: matrices that lie side by side on the last axis, each orthogonal by itself: gates, groups of a convolution. It divides that
            axis.
        delta: for convolutions: the orthogonal matrix stands in the middle of the window, all else is zero, so that the convolution keeps
            the norm of its input (with stride 1, and at least as many outputs as inputs; fewer project it).
        input_axes: axes of the weight that an output sums over; None reads the shape as `kind` says.
        output_axes: axes that an input feeds. Each position of the axes that are neither is a matrix of its own: for a kernel
            (features, heads, size), `input_axes=[0], output_axes=[2]` makes each head orthogonal.
        kind: what the weight is, as in `VarianceScaling`: a depthwise kernel is a matrix (window, multiplier) for each channel, an
            embedding is scaled to entries of mean square `gain^2`, a transposed convolution by the root of its strides.
        strides: of a convolution, as in `VarianceScaling`.

    Raises:
        ValueError: an argument is outside its range, the shape has fewer than two axes, or does not fit the arguments.

    Examples:
        >>> import numpy as np
        >>> q = ops.convert_to_numpy(Orthogonal(seed=1, blocks=4)((8, 32)))
        >>> forget = q[:, 8:16]
        >>> bool(np.allclose(forget.T @ forget, np.eye(8), atol=1e-6))
        True

    References:
        Saxe, McClelland and Ganguli (2014), arXiv:1312.6120. Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington (2018),
        arXiv:1806.05393, algorithm 1, for `delta`. Mezzadri (2007), How to generate random matrices from the classical compact groups,
        section 5: why the signs of R's diagonal must go into Q.
    """

    def __init__(
        self,
        gain: float | str = 1.0,
        seed: Any = None,
        *,
        blocks: int = 1,
        delta: bool = False,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        kind: str | None = None,
        strides: int | Sequence[int] = 1,
    ) -> None:
        super().__init__(checked_gain(gain, positive=False), checked_seed(seed))
        self.blocks = integer("blocks", blocks)
        self.delta = flag("delta", delta)
        self._reading = Reading(kind, self.blocks, strides, input_axes, output_axes)
        self.kind, self.strides = kind, self._reading.strides
        self.input_axes, self.output_axes = self._reading.input_axes, self._reading.output_axes

    def _axes(self, shape: Sequence[int]) -> Axes:
        if len(shape) < 2:
            raise ValueError(
                f"The tensor to initialize must be at least two-dimensional. Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        axes = self._reading.of(shape)
        if set(axes.inputs) & set(axes.outputs):
            raise ValueError(f"No axis may be input and output at once, got {list(axes.inputs)} and {list(axes.outputs)}.")
        if self.kind == "embedding":
            # Its rows are read one by one, but it is one matrix.
            return Axes(axes.shape, (), (0,), (1,))
        return axes

    def _sizes(self, axes: Axes) -> tuple[int, int, float]:
        """Return rows and columns of each matrix, and its factor."""
        rows = axes.size(axes.inputs if self.delta else axes.window + axes.inputs)
        columns = axes.size(axes.outputs)
        factor = as_number(self.gain) / math.sqrt(axes.taps)
        return rows, columns, factor * (math.sqrt(max(rows, columns)) if self.kind == "embedding" else 1.0)

    def variance(self, shape: Sequence[int]) -> float:
        """Return the mean square of the weights of this shape."""
        axes = self._axes(shape)
        rows, columns, factor = self._sizes(axes)
        window = axes.size(axes.window) if self.delta else 1
        return factor * factor / max(rows, columns, 1) / window

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of this shape and dtype (default: `keras.config.floatx()`)."""
        axes = self._axes(shape)
        self.note_draw(shape, self._init_seed)
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        rows, columns, factor = self._sizes(axes)
        stack = tuple(axes.shape[i] for i in axes.matrices)
        wide = "float64" if dtype == "float64" else "float32"
        drawn = self._matrices(math.prod(stack), rows, columns, wide)
        if factor != 1:
            drawn = factor * drawn
        order = (*axes.matrices, *axes.window, *axes.inputs, *axes.outputs)
        if self.delta:
            drawn = ops.reshape(drawn, (*stack, *(1 for _ in axes.window), rows, columns))
            drawn = ops.pad(drawn, [(0, 0)] * len(stack) + [_around_the_middle(axes.shape[i]) for i in axes.window] + [(0, 0)] * 2)
        if order != tuple(range(len(order))):
            in_order = ops.reshape(drawn, [axes.shape[i] for i in order])
            drawn = ops.transpose(in_order, [order.index(i) for i in range(len(order))])
        drawn = ops.reshape(drawn, shape)
        return drawn if dtype == wide else ops.cast(drawn, dtype)

    def _matrices(self, count: int, rows: int, columns: int, dtype: str) -> Any:
        """Return `count` matrices, uniform over those with orthonormal rows or columns."""
        tall = (max(rows, columns), min(rows, columns))
        q, r = ops.qr(keras.random.normal(tall if count == 1 else (count, *tall), dtype=dtype, seed=self.seed))
        if count == 1:
            q = q * ops.sign(ops.diag(r))
            return ops.transpose(q) if rows < columns else q
        q = q * ops.expand_dims(ops.sign(ops.diagonal(r, axis1=-2, axis2=-1)), -2)
        return ops.swapaxes(q, -2, -1) if rows < columns else q

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        seed = super().get_config()["seed"]
        return config_of(self, seed=seed)


def _around_the_middle(size: int) -> tuple[int, int]:
    """Return how many zeros go before and after the one position of a window that counts; "same" padding leaves it where it is."""
    before = (size - 1) // 2
    return before, size - 1 - before
