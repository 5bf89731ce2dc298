"""The names of a classifier's classes, kept in the model's file."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._checks import bad_argument, items
from keras_ext.layers._arguments import base_arguments


@keras.saving.register_keras_serializable(package="keras_ext")
class ClassNames(keras.layers.Layer):
    """Pass the predictions of a classifier unchanged, and keep the names of its classes.

    Stands last in a model, whose file then holds the names; `model.layers[-1].decode(model.predict(x))` returns names. What comes in goes
    out as the same tensor, not cast and not copied, so that Keras's losses still find the logits from which softmax or sigmoid made it.

    Args:
        names: the classes' names, each once, in the order of the model's outputs. A single output goes with two names, and is the
            probability of the second.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Input shape:
        (batch, ..., classes), or (batch, ..., 1) with two names.

    Output shape:
        That of the input.

    Raises:
        ValueError: `names` are fewer than two, not text, or have one twice; or the input's last axis does not fit them.

    Examples:
        >>> layer = ClassNames(["cat", "dog"])
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax"), layer])
        >>> model.layers[-1].decode([[0.2, 0.8], [0.7, 0.3]]).tolist()
        ['dog', 'cat']
        >>> layer.decode([0.2, 0.8]).tolist()
        ['cat', 'dog']
    """

    def __init__(self, names: Any, **kwargs: Any) -> None:
        # No cast: it would be another tensor.
        super().__init__(**base_arguments(kwargs), autocast=False)
        self._names = _checked_names(names)
        self.supports_masking = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's outputs."""
        return self._names

    def decode(self, predictions: Any) -> np.ndarray:
        """Return the name of the class that each row predicts.

        Args:
            predictions: array of shape (rows, classes): the largest counts, the first of equals. Of shape (rows, 1) or (rows,) with two
                names: above .5 it is the second. With more axes, such as (rows, time, classes), there is a name for each of them.

        Returns:
            array of text, of shape (rows,), or (rows, time).

        Raises:
            ValueError: the last axis does not fit the names, or a row has NaN.
        """
        values = ops.convert_to_numpy(predictions) if ops.is_tensor(predictions) else np.asarray(predictions)
        try:
            values = values.astype("float64")
        except (TypeError, ValueError):
            raise bad_argument("predictions", "an array of numbers", predictions, "Give what `model.predict` returns.") from None
        if values.ndim == 1 and len(self._names) == 2:
            values = values[:, None]
        if values.ndim < 2 or not self._fit(values.shape[-1]):
            raise bad_argument(
                "predictions",
                f"of shape (rows, {len(self._names)}), with one column for each name" + self._or_one("(rows, 1) or (rows,)"),
                values.shape,
                "Give what `model.predict` returns.",
            )
        for row in np.argwhere(np.isnan(values))[:1, 0]:
            raise bad_argument(f"predictions[{row}]", "without NaN", values[row].tolist(), "Check for NaN in the inputs and the weights.")
        chosen = values[..., 0] > 0.5 if values.shape[-1] == 1 else np.argmax(values, axis=-1)
        return np.array(self._names)[chosen.astype("int64")]

    def build(self, input_shape: Any) -> None:
        """Check that the last axis of `input_shape` fits the names."""
        self.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs`."""
        return inputs

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the spec of `inputs`, whose dtype stays what it is."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`, whose last axis must fit the names."""
        if not input_shape or not self._fit(input_shape[-1]):
            raise bad_argument(
                "names",
                f"one for each of the model's outputs, the last axis of {tuple(input_shape)}",
                list(self._names),
                f"Name each output, or change their number to {len(self._names)}{self._or_one('1')}.",
            )
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "names": list(self._names)}

    def _fit(self, size: int | None) -> bool:
        return size == len(self._names) or (size == 1 and len(self._names) == 2)

    def _or_one(self, one: str) -> str:
        return f" or {one}" if len(self._names) == 2 else ""


def _checked_names(names: Any) -> tuple[str, ...]:
    found = items(names)
    if found is None:
        raise bad_argument("names", "a list of text", names, "List the classes in the order of the model's outputs.")
    for i, name in enumerate(found):
        if not isinstance(name, str):
            raise bad_argument(f"names[{i}]", "text", name, "Write str(...) for a number.")
        if name in found[:i]:
            raise bad_argument("names", "a list with each name once", list(found), f"Rename one of {name!r}.")
    if len(found) < 2:
        raise bad_argument("names", "a list of at least two", list(found), "Name the other class too: one output goes with two names.")
    return tuple(str(name) for name in found)
