"""Which weights of a model have a scale to be set, and what each of them is: the part of a shape that only the layer knows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_ext._backend import keras_private
from keras_ext.initializers._fans import Axes, Reading

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_GATES = {keras.layers.SimpleRNNCell: 1, keras.layers.GRUCell: 3, keras.layers.LSTMCell: 4}
_CONVOLUTIONAL_LSTMS = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


@dataclass(frozen=True)
class Weight:
    """One weight and how its shape is to be read.

    heads: the axis that counts heads; each head is one matrix.
    recurrent: it carries the state from one time step to the next.
    inner: it feeds the layer's other kernel, with no activation between them that a gain would make up for.
    """

    layer: Any
    variable: Any
    reading: Reading
    heads: int | None = None
    recurrent: bool = False
    inner: bool = False

    @property
    def axes(self) -> Axes:
        """The variable's shape as its layer means it."""
        return self.reading.of(self.variable.shape)


def weights_of(model: Any) -> list[Weight]:
    """Return each weight of a known kind, those of layers inside layers too, each once, in the order of `model.weights`."""
    layers = [model, *keras_private.flatten_layers(model)]
    in_attention = {id(part) for layer in layers if isinstance(layer, _ATTENTION) for part in keras_private.flatten_layers(layer)}
    # A layer that a model owns and never calls has no weights yet.
    found = [weight for layer in layers if layer.built for weight in _of_layer(layer, id(layer) in in_attention)]
    order = {id(variable): i for i, variable in enumerate(model.weights)}
    # Backwards, so that of two that share a variable the first is kept.
    once = {id(weight.variable): weight for weight in reversed(found)}
    return sorted(once.values(), key=lambda weight: order.get(id(weight.variable), len(order)))


def _of_layer(layer: Any, in_attention: bool) -> Iterator[Weight]:
    if isinstance(layer, keras.layers.Dense):
        yield Weight(layer, layer.kernel, Reading("dense"))
    elif isinstance(layer, keras.layers.EinsumDense):
        yield _of_einsum(layer, in_attention)
    elif isinstance(layer, keras.layers.Embedding):
        yield Weight(layer, layer.embeddings, Reading("embedding"))
        if not getattr(layer, "tie_weights", True):
            yield Weight(layer, getattr(layer, "reverse_embeddings", None), Reading("dense"))
    elif isinstance(layer, _CONVOLUTIONS):
        yield Weight(layer, layer.kernel, Reading("conv", layer.groups, layer.strides))
    elif isinstance(layer, _TRANSPOSED):
        yield Weight(layer, layer.kernel, Reading("conv_transpose", strides=layer.strides))
    elif isinstance(layer, _DEPTHWISE):
        yield Weight(layer, layer.kernel, Reading("depthwise", strides=layer.strides))
    elif isinstance(layer, _SEPARABLE):
        yield Weight(layer, layer.depthwise_kernel, Reading("depthwise", strides=layer.strides), inner=True)
        yield Weight(layer, layer.pointwise_kernel, Reading("conv"))
    elif isinstance(layer, _CONVOLUTIONAL_LSTMS):
        yield Weight(layer.cell, layer.cell.kernel, Reading("conv", 4, layer.cell.strides))
        yield Weight(layer.cell, layer.cell.recurrent_kernel, Reading("conv", 4), recurrent=True)
    for cell, gates in _GATES.items():
        if isinstance(layer, cell):
            yield Weight(layer, layer.kernel, Reading("recurrent", gates))
            yield Weight(layer, layer.recurrent_kernel, Reading("recurrent", gates), recurrent=True)


def _of_einsum(layer: Any, in_attention: bool) -> Weight:
    terms, result = layer.equation.replace(" ", "").split("->")
    inputs, kernel = terms.split(",")
    of_output = [i for i, letter in enumerate(kernel) if letter in result]
    summed = tuple(i for i in range(len(kernel)) if i not in of_output)
    heads = None
    if in_attention:
        # (features, heads, size) into the heads, (heads, size, features) out of them.
        heads = of_output[0] if len(summed) == 1 else summed[0]
    # A letter in all three terms is no output: it counts kernels, one for each of its positions.
    outputs = tuple(i for i in of_output if kernel[i] not in inputs and i != heads)
    return Weight(layer, layer.kernel, Reading("einsum", input_axes=summed, output_axes=outputs), heads)
