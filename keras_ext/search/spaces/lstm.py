"""A search space of LSTM networks."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext import initializers
from keras_ext._checks import bad_argument, flag, integer, integers
from keras_ext.search import choices
from keras_ext.search.spaces.space import Space

_GATES = 4


class LSTM(Space):
    """Search networks of LSTM layers over time, whose last state goes to the output.

    Chosen are the number of layers, their units, one direction or both, the initializer of the kernels, dropout behind each layer,
    optimizer, clipping, learning rate and batch size; with `vocabulary`, the size of the embedding. Each gate's kernel is drawn by itself,
    and so is its recurrent matrix, which is orthogonal. The activations are those that GPUs have fused kernels for: tanh, and sigmoid in
    the gates.

    Args:
        input_shape: (time, features), or (time,) for sequences of one number a step; a time of None is any. With `vocabulary`: (time,).
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        max_layers: most LSTM layers.
        units: of each layer and direction, to choose from.
        vocabulary: number of codes, for inputs that are whole numbers from 0 to `vocabulary - 1`; None: the inputs are numbers.
        embedding: numbers that stand for a code, to choose from, with `vocabulary`.
        mask_zero: the code 0 fills sequences up and is passed over, with `vocabulary`.
        name: name of the search space.
        **kwargs: `mean`, `variance` (of a sample, of a feature, or one number), and the other
            arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, only one of `mean` and `variance` is given, `mean` is given with `vocabulary`, or
            `mask_zero` without.

    Examples:
        >>> import keras_tuner
        >>> numbers = LSTM(input_shape=(20, 3))
        >>> numbers.build(keras_tuner.HyperParameters()).output_shape
        (None, 1)
        >>> words = LSTM(input_shape=(None,), classes=2, vocabulary=1000, mask_zero=True)
        >>> words.build(keras_tuner.HyperParameters()).input_shape
        (None, None)

    References:
        Hochreiter and Schmidhuber (1997), Long short-term memory; Schuster and Paliwal (1997), Bidirectional recurrent neural networks;
        Zaremba, Sutskever and Vinyals (2014), arXiv:1409.2329, figure 2, for dropout between the layers and before the output, but not
        from step to step; Jozefowicz, Zaremba and Sutskever (2015), section 2.2, for the forget gate's bias of 1, Keras's default.
    """

    def __init__(
        self,
        input_shape: Sequence[int | None],
        classes: int | None = None,
        outputs: int = 1,
        *,
        max_layers: int = 3,
        units: Sequence[int] = (32, 64, 128),
        vocabulary: int | None = None,
        embedding: Sequence[int] = (16, 32, 64),
        mask_zero: bool = False,
        name: str = "lstm",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, classes=classes, outputs=outputs, name=name, **kwargs)
        self.vocabulary = None if vocabulary is None else integer("vocabulary", vocabulary, 2)
        if len(self.input_shape) not in ((1, 2) if vocabulary is None else (1,)):
            rule = "(time, features) or (time,)" if vocabulary is None else "(time,) with `vocabulary`"
            raise bad_argument("input_shape", rule, self.input_shape)
        integers("input_shape", [1 if i == 0 and size is None else size for i, size in enumerate(self.input_shape)])
        if vocabulary is not None and self.mean is not None:
            raise ValueError("`mean` and `variance` cannot be given with `vocabulary`: codes are no quantities. Leave them out.")
        self.max_layers = integer("max_layers", max_layers)
        self.units = integers("units", units)
        self.embedding = integers("embedding", embedding)
        self.mask_zero = flag("mask_zero", mask_zero)
        if mask_zero and vocabulary is None:
            raise bad_argument("mask_zero", "False without `vocabulary`", mask_zero, "Numbers have no code to fill sequences up with.")

    def input(self) -> Any:
        """Return the symbolic input of a network: codes, or numbers."""
        return super().input() if self.vocabulary is None else keras.Input(self.input_shape, dtype="int32")

    def prepare(self, x: Any) -> Any:
        """Return the inputs with their features on the last axis; codes stay as they are."""
        x = super().prepare(x)
        return x if self.vocabulary or len(self.input_shape) == 2 else keras.layers.Reshape((-1, 1), dtype=self.exact)(x)

    def body(self, hp: Any, x: Any) -> Any:
        """Return the last layer's last state, of both directions if so chosen."""
        if self.vocabulary is not None:
            # Each code starts with numbers of variance 1, as the LSTM's initializer expects its inputs.
            start = initializers.LecunNormal(kind="embedding")
            size = hp.Choice("embedding", list(self.embedding))
            x = keras.layers.Embedding(self.vocabulary, size, start, mask_zero=self.mask_zero, name="embedding")(x)
        for layer in choices.dropout(hp, "spatial_dropout", spatial=1) if self.wide else []:
            x = layer(x)
        units, count = hp.Choice("units", list(self.units)), choices.layers(hp, self.max_layers)
        both = hp.Choice("direction", ["forward", "both"]) == "both"
        for i in range(1, count + 1):
            layer = keras.layers.LSTM(
                units,
                return_sequences=i < count,
                kernel_initializer=self.initializer(hp, "tanh", gates=_GATES),
                recurrent_initializer=initializers.Orthogonal(kind="recurrent", blocks=_GATES),
                kernel_regularizer=self.regularizer(hp),
                recurrent_regularizer=self.regularizer(hp),
                name=f"lstm_{i}",
            )
            x = (keras.layers.Bidirectional(layer, name=f"both_{i}") if both else layer)(x)
            for layer in choices.dropout(hp):
                x = layer(x)
        return x
