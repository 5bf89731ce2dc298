"""The base of search spaces of Dense layers: flat inputs, a table's columns among them, an activation and a width."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import bad_argument, integers
from keras_ext.search import choices
from keras_ext.search.spaces.space import Space


class DenseSpace(Space):
    """A search space of networks of Dense layers, whose `dense` takes the chosen initializer and penalty.

    Args:
        input_shape: shape of one sample, without the batch; more than one axis is flattened.
        units: widths to choose from; where a search begins is the one that `choices.units` takes.
        features: a `tables.TableFeatures` that has been adapted, for inputs as its `encode` returns them; each model gets a copy.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        **kwargs: the other arguments of `Space`.

    Raises:
        ValueError: `units` or `activations` is out of range, `features` is given with `mean` and `variance`, or as `Space` does.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        units: Sequence[int],
        features: keras.layers.Layer | None,
        activations: Sequence[str] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(integers("input_shape", input_shape), **kwargs)
        if features is not None and not getattr(features, "columns", None):
            raise bad_argument("features", "a tables.TableFeatures that has been adapted, or None", features, "Call `adapt(table)` first.")
        if features is not None and self.input_shape != (len(features.columns),):
            rule = f"({len(features.columns)},), the number of columns, with `features`"
            raise bad_argument("input_shape", rule, self.input_shape, "Give what `features.encode` returns for one row.")
        if features is not None and self.mean is not None:
            raise ValueError(
                "`features` and `mean` cannot both be given: TableFeatures normalizes by itself. Leave `mean` and `variance` out."
            )
        self.units = integers("units", units)
        self.features = features
        self.activations = self.offered_activations(activations)

    def prepare(self, x: Any) -> Any:
        """Return the inputs on one axis, normalized or as the features of a table."""
        if self.features is not None:
            x = type(self.features).from_config(self.features.get_config())(x)
        x = super().prepare(x)
        return x if len(self.input_shape) == 1 else keras.layers.Flatten(dtype=self.exact)(x)

    def choose_units(self, hp: Any, x: Any) -> int:
        """Choose the width of the layers behind `x`."""
        return choices.units(hp, x.shape[-1], self.classes or self.outputs, self.units)

    def dense(self, hp: Any, units: int, activation: str, name: str) -> Any:
        """Return a Dense layer, whose activation comes after it."""
        initializer = self.initializer(hp, activation, self.activations)
        return keras.layers.Dense(units, kernel_initializer=initializer, kernel_regularizer=self.regularizer(hp), name=name)
