"""Swap Keras's layers for ours in a model that exists, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_ext import layers
from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument
from keras_ext._warnings import warn
from keras_ext.optimizers import from_keras, to_keras

_NAMES = ("BatchNormalization", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
_OURS = {getattr(keras.layers, name): getattr(layers, name) for name in _NAMES}
_KERAS = {ours: theirs for theirs, ours in _OURS.items()}


def upgrade(model: Any, custom_objects: Mapping[str, Any] | None = None, *, optimizer: bool = False) -> Any:
    """Return a clone of `model` in which every BatchNormalization, Dropout and SpatialDropout of Keras is ours.

    Names, weights, dtype policies, frozen layers, compile state and the optimizer's slots are those of `model`, which stays as it is.
    Nested models and wrappers such as `TimeDistributed` are gone through. Subclasses of Keras's layers are left alone.

    Args:
        model: Sequential or functional, built or not.
        custom_objects: names and objects that Keras needs to make the model's parts from their configs, such as an unregistered metric.
        optimizer: also exchange the optimizer that the model is compiled with (`keras_ext.optimizers.from_keras`).

    Raises:
        TypeError: `optimizer=True`, and there is no optimizer of ours for the model's.
        ValueError: `model`, or what is inside it, makes such layers in code of its own, which a clone repeats. Put the layers of
            `keras_ext.layers` into that code; their weights are those of Keras's.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(1)])
        >>> type(upgrade(model).get_layer("norm")).__module__
        'keras_ext.layers.batch_normalization'
    """
    return _Exchange(_OURS, "upgrade", dict).clone(model, custom_objects, from_keras if optimizer else None)


def downgrade(model: Any, custom_objects: Mapping[str, Any] | None = None, *, optimizer: bool = False) -> Any:
    """Return a clone of `model` in which every BatchNormalization, Dropout and SpatialDropout of ours is Keras's; undoes `upgrade`.

    What only training knows is left behind with a warning: `virtual_batch_size` and `debias`.

    Args:
        model: Sequential or functional, built or not.
        custom_objects: see `upgrade`.
        optimizer: also exchange the optimizer (`keras_ext.optimizers.to_keras`).

    Raises:
        ValueError: as `upgrade`; or a layer does at inference what Keras's cannot: several channel axes, `monte_carlo`.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="norm"), keras.layers.Dense(1)])
        >>> type(downgrade(model).get_layer("norm")) is keras.layers.BatchNormalization
        True
    """
    return _Exchange(_KERAS, "downgrade", _without_ours).clone(model, custom_objects, to_keras if optimizer else None)


def _without_ours(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of one of our layers as Keras's takes it."""
    name = config.get("name")
    if isinstance(config.get("axis"), (tuple, list)):
        raise ValueError(f"Layer {name!r} has channels on the axes {tuple(config['axis'])}, which Keras's cannot. Keep ours.")
    if config.get("monte_carlo"):
        raise ValueError(f"Layer {name!r} drops at inference (`monte_carlo`), which Keras's cannot. Keep ours, or set monte_carlo=False.")
    lost = [key for key in ("virtual_batch_size", "debias") if config.get(key)]
    if lost:
        warn(f"Layer {name!r} trains without {' and '.join(lost)} from here on: Keras's has none.")
    ours = {"monte_carlo", "stream", "virtual_batch_size", "debias"}
    if "rate" in config and "noise_shape" not in config:
        # Keras's spatial dropout takes no more than its own arguments.
        ours.add("trainable")
    return {key: value for key, value in config.items() if key not in ours}


class _Exchange:
    """The exchange of layers by class; `adapt` makes the config of a layer that goes into that of the one that comes."""

    def __init__(self, classes: Mapping[type, type], verb: str, adapt: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.classes, self.verb, self.adapt = classes, verb, adapt

    def clone(self, model: Any, custom_objects: Any, convert: Callable[[Any], Any] | None) -> Any:
        """Return the model with other layers; `convert` makes its optimizer into another."""
        if custom_objects is not None and not isinstance(custom_objects, Mapping):
            fix = "For the optimizer write optimizer=True."
            raise bad_argument("custom_objects", "a dict of names and classes, or None", custom_objects, fix, TypeError)
        if not keras_private.is_functional_or_sequential(model):
            own = ", a model with a `call` of its own" if isinstance(model, keras.Model) else ""
            raise ValueError(
                f"`model` must be Sequential or functional, got {type(model).__name__}{own}. To {self.verb} it, exchange the layers where "
                "its code makes them; `load_weights` and `set_weights` take the old weights."
            )
        if convert and getattr(model, "optimizer", None) is None:
            raise ValueError(f"`optimizer=True` needs a compiled model. Compile it first, or {self.verb} the layers alone.")
        inside = list(keras_private.flatten_layers(model))
        known = {type(layer).__name__: type(layer) for layer in inside if type(layer) not in self.classes}
        losses = keras.tree.flatten(getattr(model, "loss", None))
        known |= {loss.__name__: loss for loss in losses if callable(loss) and hasattr(loss, "__name__") and loss.__name__ not in known}
        with keras.saving.custom_object_scope({**known, **(custom_objects or {})}), keras_private.trusts_lambdas():
            clone = self._model(model)
            left = next((layer for layer in keras_private.flatten_layers(clone) if type(layer) in self.classes), None)
            if left is not None:
                holders = [each for each in keras_private.flatten_layers(clone) if left in list(keras_private.flatten_layers(each))]
                owner = f"{type(holders[-1]).__name__} {holders[-1].name!r}" if holders else repr(clone.name)
                raise ValueError(
                    f"Layer {left.name!r} is made by code inside {owner}, which a clone repeats. To {self.verb} it, exchange "
                    f"{type(left).__module__.split('.')[0]}'s {type(left).__name__} there."
                )
            if model.built:
                if not clone.built:
                    clone.build(model.input_shape)
                clone.set_weights(model.get_weights())
            for old, new in zip([model, *inside], [clone, *keras_private.flatten_layers(clone)], strict=True):
                new.trainable = old.trainable
            if model.compiled:
                _compile_like(clone, model, convert)
        return clone

    def _model(self, model: Any) -> Any:
        if isinstance(model, keras.Sequential):
            return keras.models.clone_model(model, clone_function=self._layer)
        # Left to itself Keras names the new inputs after their tensors, and a dict of inputs no longer fits.
        inputs = keras.tree.map_structure(_input_like, model.input)
        return keras.models.clone_model(model, clone_function=self._layer, input_tensors=inputs)

    def _layer(self, layer: Any) -> Any:
        """Return a copy of `layer`, of the other class if there is one; for a model or a wrapper, of what is in it."""
        if keras_private.is_functional_or_sequential(layer):
            return self._model(layer)
        config = layer.get_config()
        if type(layer) in self.classes:
            # Keras's spatial dropout forgets its policy in its config.
            return self.classes[type(layer)].from_config({**self.adapt(config), "dtype": layer.dtype_policy})
        copy = type(layer).from_config(self._config(config))
        # The config of a layer that writes none of its own holds no name.
        copy.name = layer.name
        if isinstance(layer, keras.layers.Lambda):
            # Its config holds the code alone, not the names that the code uses.
            copy.function = layer.function
        return copy

    def _config(self, value: Any) -> Any:
        if isinstance(value, dict):
            for old, new in self.classes.items():
                registered = keras.saving.get_registered_name(old) if old in _KERAS else None
                if value.get("class_name") == old.__name__ and value.get("registered_name") == registered and "config" in value:
                    layer = new.from_config(self.adapt(dict(value["config"])))
                    return {**keras.saving.serialize_keras_object(layer), **{k: v for k, v in value.items() if k == "build_config"}}
            return {key: self._config(item) for key, item in value.items()}
        return type(value)(map(self._config, value)) if type(value) in (list, tuple) else value


def _input_like(tensor: Any) -> Any:
    source = keras_private.source_of(tensor)
    return type(source).from_config(source.get_config()).output


def _compile_like(clone: Any, model: Any, convert: Callable[[Any], Any] | None) -> None:
    """Compile `clone` as `model` is, with what `convert` makes of the optimizer, and give that what the old one holds."""
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    source = model.optimizer
    if convert:
        source = convert(source)
        config["optimizer"] = type(source).from_config(source.get_config())
    # The loss itself: a lambda's config does not hold the names that it uses.
    clone.compile(**{**config, "loss": model.loss})
    old, new = model.optimizer, clone.optimizer
    if old is None:
        return
    # Weights that are excluded from weight decay: in Keras the config does not tell them.
    inner, source_inner = new, source
    while hasattr(source_inner, "inner_optimizer"):
        inner, source_inner = inner.inner_optimizer, source_inner.inner_optimizer
    weights, names = keras_private.excluded_from_weight_decay(source_inner)
    if weights or names:
        places = {id(v): i for i, v in enumerate(model.trainable_variables)}
        same = [clone.trainable_variables[places[id(v)]] for v in weights if id(v) in places]
        inner.exclude_from_weight_decay(var_list=same, var_names=names)
    if not old.built:
        return
    new.build(clone.trainable_variables)
    if [tuple(v.shape) for v in old.variables] != [tuple(v.shape) for v in new.variables]:
        warn("The optimizer starts again: other weights are trainable than when it was built.")
        return
    for mine, theirs in zip(new.variables, old.variables, strict=True):
        # Through NumPy: on JAX two variables would hold one buffer, which the first step gives away.
        mine.assign(ops.convert_to_numpy(theirs))
