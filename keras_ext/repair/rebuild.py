"""A copy of a model with the changes of a blueprint, and the weights and compile settings of the model."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._backend import keras_private
from keras_ext._wording import one_line
from keras_ext.callbacks.monitor.probe.samples import build
from keras_ext.callbacks.monitor.probe.training import RECURRENT_RATES
from keras_ext.optimizers import GradientClipping
from keras_ext.optimizers.exchange import clone, innermost
from keras_ext.remedies.weights import draw_again
from keras_ext.repair.anatomy import ACTIVATIONS, Anatomy
from keras_ext.repair.blueprint import Blueprint


def rebuilt(model: Any, blueprint: Blueprint, data: tuple[Any, Any, Any], seed: int = 0) -> Any:
    """Return a copy of `model` with the changes of `blueprint`, compiled as it is; `model` stays as it is.

    Raises:
        ValueError: the model has a `call` of its own and cannot be copied by its config.
    """
    anatomy = Anatomy(model)
    inside = list(keras_private.flatten_layers(model))
    known = {type(layer).__name__: type(layer) for layer in (model, *inside) if not type(layer).__module__.startswith("keras.")}
    with keras.saving.custom_object_scope(known), keras_private.trusts_lambdas():
        if anatomy.has_graph:
            copy, pairs = _Copy(anatomy, blueprint).made()
        else:
            copy = _copied(model, data)
            pairs = list(zip(inside, keras_private.flatten_layers(copy), strict=True))
        _take_over(anatomy, blueprint, copy, pairs)
        if blueprint.drawn:
            new = {id(old): now for old, now in pairs}
            draw_again(copy, [new[id(anatomy.layers[name])] for name in sorted(blueprint.drawn) if id(anatomy.layers[name]) in new], seed)
            _calm([new[id(anatomy.layers[name])] for name in sorted(blueprint.skipped & blueprint.drawn)])
        if model.compiled:
            _compile_like(copy, model, blueprint)
    return copy


def _copied(model: Any, data: tuple[Any, Any, Any]) -> Any:
    """Return a copy by the config of the class, or where that makes another model, by the attributes of this one."""
    try:
        return _checked(model, type(model).from_config(model.get_config()), data)
    except Exception as error:
        try:
            return _checked(model, keras_private.deep_copy(model), data)
        except Exception:
            fix = "Give the class a `get_config` that returns the arguments of its `__init__`."
            what = f"`model` is a {type(model).__name__}, and a repair needs a copy of it"
            raise ValueError(f"{what}: {one_line(error)}. {fix}") from error


def _checked(model: Any, copy: Any, data: tuple[Any, Any, Any]) -> Any:
    if not keras_private.is_built(copy):
        build(copy, data)
    if [tuple(w.shape) for w in copy.weights] != [tuple(w.shape) for w in model.weights]:
        raise ValueError("the copy has other weights")
    copy.set_weights(model.get_weights())
    kept = [(v, ops.convert_to_numpy(v)) for v in model.variables]
    # Seeds too, so that a model that samples draws the same; the comparison moves them.
    for (_, value), new in zip(kept, copy.variables, strict=True):
        new.assign(value)
    same = _does_the_same(model, copy, data[0])
    for (old, value), new in zip(kept, copy.variables, strict=True):
        old.assign(value)
        new.assign(value)
    if not same:
        raise ValueError("the copy computes something else")
    return copy


def _does_the_same(model: Any, copy: Any, x: Any) -> bool:
    """Return whether plain attributes and outputs are the same: of a class without `get_config` Keras may know the defaults alone."""
    plain = keras.Model()
    plain.compile("sgd", "mse")
    own = {name: value for name, value in vars(model).items() if name not in vars(plain) and isinstance(value, bool | int | float | str)}
    if any(getattr(copy, name, None) != value for name, value in own.items()):
        return False
    if type(model).call is keras.Model.call:  # called in its `train_step` alone
        return True
    few = keras.tree.map_structure(lambda a: None if a is None else ops.convert_to_tensor(a[:4]), x)
    pairs = zip(keras.tree.flatten(model(few, training=False)), keras.tree.flatten(copy(few, training=False)), strict=True)
    values = [(ops.convert_to_numpy(ops.cast(a, "float32")), ops.convert_to_numpy(ops.cast(b, "float32"))) for a, b in pairs]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in values)


def _take_over(anatomy: Anatomy, blueprint: Blueprint, copy: Any, pairs: list[tuple[Any, Any]]) -> None:
    """Give the layers of `copy` the weights and the freezing of those of the model, and new arguments where these need no new graph."""
    copy.trainable = anatomy.model.trainable
    for old, new in pairs:
        if not keras_private.is_functional_or_sequential(old):
            if old.built and not new.built and old.weights:
                raise ValueError(f"The copy of layer {old.name!r} has no weights. Call the model on data first.")
            if old.weights and [tuple(w.shape) for w in old.weights] == [tuple(w.shape) for w in new.weights]:
                new.set_weights(old.get_weights())
    for old, new in pairs:
        if old.trainable != new.trainable:
            new.trainable = old.trainable
    for old, new in pairs:
        config = blueprint.configs.get(anatomy.names.get(id(old), ""), {})
        for name, value in config.items():
            setattr(new.cell if name in RECURRENT_RATES else new, name, value)
            weight, _, kind = name.rpartition("_")
            if kind in ("regularizer", "constraint") and weight != "activity":
                # The layer is built, and its weight has what it was built with.
                setattr(getattr(new, weight), kind, value)
    if any("trainable" in config for config in blueprint.configs.values()) and not copy.trainable:
        _thaw(copy, pairs, anatomy, blueprint)


def _calm(layers: list[Any]) -> None:
    """Divide the kernels of layers with a skip connection by the root of their number: their sum then grows by no more than e.

    Without it the signal doubles from layer to layer (Hanin and Rolnick 2018; Zhang, Dauphin and Ma 2019).
    """
    for layer in layers:
        for kernel in (v for v in layer.trainable_variables if len(v.shape) >= 2):
            kernel.assign(kernel / len(layers) ** 0.5)


def _thaw(copy: Any, pairs: list[tuple[Any, Any]], anatomy: Anatomy, blueprint: Blueprint) -> None:
    # A frozen model passes its freezing on to all layers: those that stay frozen are frozen again.
    copy.trainable = True
    for old, new in pairs:
        name = anatomy.names.get(id(old), "")
        if not keras_private.is_functional_or_sequential(old) and not blueprint.configs.get(name, {}).get("trainable", False):
            new.trainable = False


def _copied_without_config(layer: Any, error: RuntimeError) -> Any:
    try:
        return keras_private.deep_copy(layer)
    except Exception:
        fix = "Give its class a `get_config` that returns the arguments of its `__init__`."
        what = f"layer {layer.name!r} ({type(layer).__name__}), which a repair must copy, has no `get_config`"
        raise ValueError(f"`model` cannot be repaired: {what}. {fix}") from error


class _Copy:
    """A copy of a Sequential or functional model, layer by layer."""

    def __init__(self, anatomy: Anatomy, blueprint: Blueprint) -> None:
        self.anatomy, self.blueprint = anatomy, blueprint
        self.pairs: list[tuple[Any, Any]] = []
        self._olds: dict[int, Any] = {}
        self._extra: dict[tuple[int, str], Any] = {}
        self._normalized: dict[int, Any] = {}

    def made(self) -> tuple[Any, list[tuple[Any, Any]]]:
        """Return the copy, and the layers of the model with theirs, those inside layers too."""
        model, blueprint = self.anatomy.model, self.blueprint
        copy = self._model(model)
        if blueprint.outputs:
            copy = self._with_scaled_outputs(copy)
        parts = []
        for old, new in self.pairs:
            parts.append((old, new))
            if not keras_private.is_functional_or_sequential(old):
                parts += zip(keras_private.flatten_layers(old), keras_private.flatten_layers(new), strict=True)
        return copy, parts

    def _model(self, model: Any) -> Any:
        if not isinstance(model, keras.Sequential):
            inputs = keras.tree.map_structure(_input_like, model.input)
            if model is self.anatomy.model:
                flat = keras.tree.flatten(inputs)
                self._normalized = {id(flat[i]): layer(flat[i]) for i, layer in self._normalizing().items()}
            return keras.models.clone_model(model, clone_function=self._layer, call_function=self._call, input_tensors=inputs)
        names = self.anatomy.names
        if any(names.get(id(layer)) in self.blueprint.skipped for layer in model.layers):
            inputs = output = _input_like(model.inputs[0])
            for layer in [*(self._normalizing().values() if model is self.anatomy.model else ()), *map(self._layer, model.layers)]:
                output = self._call(layer, output)
            return keras.Model(inputs, output, name=model.name)
        copy = keras.Sequential(name=model.name)
        if model.built:
            copy.add(_input_like(model.inputs[0]))
        if model is self.anatomy.model:
            for layer in self._normalizing().values():
                copy.add(layer)
        for layer in model.layers:
            new = self._layer(layer)
            for part in [new, *self._after(new)]:
                copy.add(part)
        return copy

    def _layer(self, layer: Any) -> Any:
        if keras_private.is_functional_or_sequential(layer):
            copy = self._model(layer)
        else:
            copy = self._changed(layer)
        if isinstance(layer, keras.layers.Layer):
            self.pairs.append((layer, copy))
        self._olds[id(copy)] = layer
        return copy

    def _changed(self, layer: Any) -> Any:
        try:
            config = layer.get_config()
        except RuntimeError as error:  # the one that Keras raises is a kind of it
            return _copied_without_config(layer, error)
        name = self.anatomy.names.get(id(layer), "")
        activation = self.blueprint.activations.get(name)
        if activation is not None and isinstance(layer, ACTIVATIONS):
            return keras.layers.Activation(activation, name=layer.name, dtype=layer.dtype_policy)
        if name in self.blueprint.normalized:
            activation = "linear"
        if activation is not None:
            config["activation"] = activation
        copy = type(layer).from_config(config)
        if not isinstance(layer, keras.layers.Layer):
            return copy
        copy.name = layer.name
        if isinstance(layer, keras.layers.Lambda):
            # Its config holds the code alone, not the names that the code uses.
            copy.function = layer.function
        return copy

    def _after(self, new: Any) -> list[Any]:
        """Return the layers that come between a layer and what it feeds: the normalization and then the activation."""
        old = self._olds.get(id(new))
        name = self.anatomy.names.get(id(old), "")
        if name not in self.blueprint.normalized or (id(new), "normalization") in self._extra:
            return [self._extra[key] for key in self._extra if key[0] == id(new)]
        parts = [keras.layers.BatchNormalization(name=f"{new.name}_normalization", dtype=new.dtype_policy)]
        self._extra[id(new), "normalization"] = parts[0]
        own = self.blueprint.activations.get(name) or getattr(getattr(old, "activation", None), "__name__", "linear")
        if own != "linear":
            parts.append(keras.layers.Activation(own, name=f"{new.name}_activation", dtype=new.dtype_policy))
            self._extra[id(new), "activation"] = parts[1]
        return parts

    def _call(self, new: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(lambda t: self._normalized.get(id(t), t), (args, kwargs))
        output = new(*args, **kwargs)
        for part in self._after(new):
            output = part(output)
        name = self.anatomy.names.get(id(self._olds.get(id(new))), "")
        if name in self.blueprint.skipped and args and tuple(getattr(args[0], "shape", ())) == tuple(output.shape):
            output = keras.layers.Add(name=f"{new.name}_skip")([output, args[0]])
        return output

    def _with_scaled_outputs(self, copy: Any) -> Any:
        scaling = {
            place: keras.layers.Rescaling(scale, offset, name=f"output_scale_{place + 1}", dtype="float32")
            for place, (scale, offset) in self.blueprint.outputs.items()
        }
        if isinstance(copy, keras.Sequential):
            for layer in scaling.values():
                copy.add(layer)
            return copy
        ends = [scaling[i](tensor) if i in scaling else tensor for i, tensor in enumerate(keras.tree.flatten(copy.output))]
        return keras.Model(copy.input, keras.tree.pack_sequence_as(copy.output, ends), name=copy.name)

    def _normalizing(self) -> dict[int, Any]:
        return {
            place: keras.layers.Normalization(axis=-1, mean=mean, variance=variance, name=f"input_normalization_{place + 1}")
            for place, (mean, variance) in self.blueprint.inputs.items()
        }


def _input_like(tensor: Any) -> Any:
    source = keras_private.source_of(tensor)
    return type(source).from_config(source.get_config()).output


def _compile_like(copy: Any, model: Any, blueprint: Blueprint) -> None:
    """Compile `copy` as `model` is, with a new optimizer and the losses of `blueprint`."""
    try:
        config = keras.saving.deserialize_keras_object(model.get_compile_config())
    except (TypeError, ValueError):
        config = keras_private.compile_arguments(model)
    if "optimizer" not in config:  # of a `compile` with arguments of its own
        copy.compile_from_config(model.get_compile_config())
        return
    config["optimizer"] = optimizer_like(model.optimizer, blueprint)
    if "loss" in config:
        config["loss"] = _losses(model, blueprint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy.compile(**config)


def optimizer_like(optimizer: Any, blueprint: Blueprint) -> Any:
    """Return a new optimizer of the settings of `optimizer`, changed as `blueprint` says."""
    if optimizer is None:
        return None
    more = dict(blueprint.optimizer)
    new = clone(optimizer, more.pop("learning_rate", None))
    if more:
        new = _with_arguments(new, more)
    if blueprint.threshold is not None:
        inner = innermost(new)
        scales = isinstance(new, keras.optimizers.LossScaleOptimizer)
        wrapped = GradientClipping(inner, threshold=blueprint.threshold)
        new = keras.optimizers.LossScaleOptimizer(wrapped) if scales else wrapped
    return new


def _with_arguments(optimizer: Any, more: dict[str, Any]) -> Any:
    inner = innermost(optimizer)
    new = type(inner).from_config({**inner.get_config(), **keras_private.rate_function(inner), **more})
    if inner is optimizer:
        return new
    outer = optimizer
    while outer.inner_optimizer is not inner:
        outer = outer.inner_optimizer
    outer.inner_optimizer = new
    return optimizer


def _losses(model: Any, blueprint: Blueprint) -> Any:
    if not blueprint.losses:
        return model.loss
    if isinstance(model.loss, dict):
        return {name: blueprint.losses.get(i, model.loss.get(name)) for i, name in enumerate(model.output_names)}
    flat = keras.tree.flatten(model.loss) if isinstance(model.loss, list | tuple) else [model.loss]
    flat = [blueprint.losses.get(i, loss) for i, loss in enumerate(flat)]
    return keras.tree.pack_sequence_as(model.loss, flat) if isinstance(model.loss, list | tuple) else flat[0]
