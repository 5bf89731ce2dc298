"""A search space of residual networks of Dense layers."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import integers
from keras_ext.search import choices
from keras_ext.search.spaces.dense import DenseSpace


class ResidualMLP(DenseSpace):
    """Search networks of blocks `x + F(x)`, which stay trainable where a plain stack of as many layers does not.

    A first Dense layer brings the inputs to the width, which all blocks keep. In each block F is normalization, activation, Dense,
    normalization, activation, dropout if chosen, Dense: the normalization stands before the weights ("full pre-activation"), so that the
    sum passes from block to block as it is. After the last block come normalization and activation once more.

    Chosen are the number of blocks, width, activation, initializer, kind of normalization (batch or layer), dropout, optimizer, clipping,
    learning rate and batch size.

    Args:
        input_shape: shape of one sample, without the batch; more than one axis is flattened.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        blocks: numbers of blocks to choose from, each of two layers.
        units: widths to choose from; where a search begins is the one that `choices.units` takes.
        features: a `tables.TableFeatures` that has been adapted, for inputs as its `encode` returns them; each model gets a copy.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        name: name of the search space.
        **kwargs: `mean`, `variance`, `samples`, `batch_sizes` and the other arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, only one of `mean` and `variance` is given, or both them and `features`.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> hp.values["blocks"] = 16
        >>> model = ResidualMLP(input_shape=(4,), classes=3).build(hp)
        >>> sum(isinstance(layer, keras.layers.Dense) for layer in model.layers)
        34

    References:
        He, Zhang, Ren and Sun (2016), Identity mappings in deep residual networks, arXiv:1603.05027, figure 4 (e), and the appendix for
        the activation after the last block. Unlike theirs, the first block has its activation inside F, as the others have.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int | None = None,
        outputs: int = 1,
        *,
        blocks: Sequence[int] = (1, 2, 4, 8, 16),
        units: Sequence[int] = (32, 64, 128, 256),
        features: keras.layers.Layer | None = None,
        activations: Sequence[str] | None = None,
        name: str = "residual_mlp",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, units, features, activations, classes=classes, outputs=outputs, name=name, **kwargs)
        self.blocks = integers("blocks", blocks)

    def body(self, hp: Any, x: Any) -> Any:
        """Return the activated sum after the last block."""
        activation = choices.activation(hp, activations=self.activations)
        units = self.choose_units(hp, x)

        def activated(x: Any, name: str) -> Any:
            for layer in self.normalization(hp, "batch", "layer"):
                x = layer(x)
            return choices.activation_layer(activation, f"{activation}_{name}")(x)

        x = self.dense(hp, units, activation, "first")(x)
        for i in range(1, hp.Choice("blocks", list(self.blocks)) + 1):
            inner = self.dense(hp, units, activation, f"block_{i}_a")(activated(x, f"{i}_a"))
            inner = activated(inner, f"{i}_b")
            for layer in choices.dropout(hp):
                inner = layer(inner)
            inner = self.dense(hp, units, activation, f"block_{i}_b")(inner)
            x = keras.layers.Add(name=f"sum_{i}")([x, inner])
        return activated(x, "last")
