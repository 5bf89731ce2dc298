"""First weights for a whole model: each weight read as its layer means it, each with random numbers of its own."""

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext._checks import bad_argument, integer
from keras_ext.initializers import _lsuv, variance_scaling
from keras_ext.initializers._activation_after import Following
from keras_ext.initializers._weights import Weight, weights_of
from keras_ext.initializers.gains import calculate_gain
from keras_ext.initializers.orthogonal import Orthogonal
from keras_ext.initializers.report import InitializationReport, InitializedWeight
from keras_ext.initializers.variance_scaling import GlorotNormal, HeNormal, LecunNormal, VarianceScaling

# Activations that let one half through: He's argument holds for them, with relu's gain where their own is not known.
_RELU_FAMILY = (
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "gelu"),
    *("silu", "swish", "mish", "softplus", "hard_silu", "hard_swish"),
)
# Names of weights that have no scale to be set: biases, and the weights of normalisation layers.
_UNSCALED = ("bias", "beta", "gamma", "scale")
_READING = ("kind", "groups", "blocks", "strides", "input_axes", "output_axes")


def initialize(model: Any, initializer: Any, seed: int | None = None, data: Any = None) -> InitializationReport:
    """Give each weight of a built model first values from `initializer`, at the scale that its layer asks for.

    An initializer sees a shape alone. This walks all layers, inside others too, and adds the rest: groups and strides of convolutions,
    the input axes of depthwise, transposed and einsum kernels, that an embedding finds one row, that LSTM and GRU have one matrix for each
    gate and attention layers one for each head, or one for all heads that fit. Each weight draws from a stream of its own.

    Dense, EinsumDense, Conv1D to 3D and their transposed, depthwise and separable kinds, Embedding, SimpleRNN, LSTM, GRU, ConvLSTM,
    MultiHeadAttention and GroupQueryAttention are known. Biases (an LSTM's forget bias among them) and normalisation layers stay as they
    are. So do weights that are frozen, quantized, under LoRA, or of other layers; the report says so. An optimizer that has trained the
    model keeps its slots: compile again.

    Args:
        model: a built Keras model or layer.
        initializer: an initializer, ours or Keras's, its name, or one of

            - `"auto"`: by the activation after each layer (its own, or of a later layer): `HeNormal` with that activation's gain for
              the ReLU family, `LecunNormal` for selu, `GlorotNormal` for the rest; recurrent kernels `Orthogonal`.
            - `"lsuv"`: layer-sequential unit variance: `Orthogonal`, then each kernel is scaled until the layer's sums over `data`, before
              its activation, have variance 1. Not inside recurrent layers.

            Initializers that know no fans (`RandomNormal`, a function) give each weight what they give.
        seed: the whole model's; the same seed, model and backend give the same weights. None takes the initializer's own seed if it has
            one, else one of Python's generator, which `keras.utils.set_random_seed` sets.
        data: for `"lsuv"`: one batch of the model's inputs, as the model is called with; some hundred samples.

    Returns:
        A report with one record a weight; it prints as a table.

    Raises:
        ValueError: the model is not built, `initializer` is none, or has arguments that read shapes, or has a seed although `seed` is
            given; `data` is missing for `"lsuv"` or given for others. The model is then as it was.

    Examples:
        >>> model = keras.Sequential([keras.Input((8, 8, 64)), keras.layers.DepthwiseConv2D(3), keras.layers.ReLU()])
        >>> report = initialize(model, "auto", seed=1)
        >>> report.weights[0].kind, report.weights[0].fan_in, round(report.weights[0].std_wanted, 3)
        ('depthwise', 9, 0.471)

    References:
        Glorot and Bengio (2010); He et al. (2015), arXiv:1502.01852; Klambauer et al. (2017), arXiv:1706.02515; Saxe et al. (2014),
        arXiv:1312.6120; Mishkin and Matas (2016), arXiv:1511.06422, algorithm 1, for `"lsuv"`.
    """
    if not isinstance(model, keras.layers.Layer):
        raise bad_argument("model", "a Keras model or layer", model)
    by_data = isinstance(initializer, str) and initializer == "lsuv"
    if by_data != (data is not None):
        raise bad_argument("data", "a batch of the model's inputs with 'lsuv', and None with other initializers", data)
    if seed is not None:
        integer("seed", seed, 0)
    if data is not None:
        data = tree.map_structure(ops.convert_to_tensor, data)
        if not model.built:
            model(data)
    if not model.built:
        fix = "Call `model.build(input_shape)`, or call it on a batch, first."
        raise ValueError(f"`model` must be built before its weights can be initialized, got {model.name!r}, which is not. {fix}")
    choose, seed = _chooser(model, initializer, seed)
    weights = weights_of(model)
    # Different numbers, so that no two streams are one.
    seeds = [None] * len(weights)
    if seed is not None:
        seeds = np.random.default_rng(seed).choice(2**31 - 1, len(weights), replace=False).tolist()
    rows: dict[int, InitializedWeight] = {}
    drawn = []
    for weight, own_seed in zip(weights, seeds, strict=True):
        variable = weight.variable
        why = _why_left(weight)
        if why:
            rows[id(variable)] = _left(weight.layer, variable, why)
            continue
        chosen = choose(weight, own_seed)
        drawn.append((weight, chosen(variable.shape, dtype=variable.dtype)))
        rows[id(variable)] = _row(weight, chosen)
    kept = [(weight.variable, ops.copy(ops.convert_to_tensor(weight.variable))) for weight, _ in drawn]
    try:
        for weight, value in drawn:
            weight.variable.assign(value)
        notes = [] if data is None else _lsuv.scale_to_unit_variance(model, [weight for weight, _ in drawn], data)
    except BaseException:
        for variable, value in kept:
            variable.assign(value)
        raise
    for variable, note in notes:
        rows[id(variable)] = replace(rows[id(variable)], note=note)
    for variable, _ in kept:
        rows[id(variable)] = replace(rows[id(variable)], std_given=_std(variable))
    others = [
        _left(model, variable, "left: a weight of a layer that is not known")
        for variable in model.trainable_variables
        if id(variable) not in rows and len(variable.shape) >= 2 and variable.name not in _UNSCALED
    ]
    return InitializationReport((*rows.values(), *others))


Choose = Callable[[Weight, int | None], Any]


def _chooser(model: Any, initializer: Any, seed: int | None) -> tuple[Choose, int | None]:
    """Return what gives each weight its initializer, and the seed of the whole model, None where a generator goes on."""
    if isinstance(initializer, str) and initializer == "auto":
        following = Following(model)
        return (lambda weight, own: _auto(weight, *following.activation(weight.layer), own)), _or_any(seed)
    if isinstance(initializer, str) and initializer == "lsuv":
        return (lambda weight, own: reported(Orthogonal(), weight, own)), _or_any(seed)
    given = keras.initializers.get(initializer)
    if given is None:
        raise bad_argument("initializer", "an initializer, its name, 'auto' or 'lsuv'", initializer)
    reported_already = [name for name in _READING if getattr(given, name, None) not in (None, 1)]
    if reported_already and isinstance(given, VarianceScaling | Orthogonal):
        raise bad_argument("initializer", f"without `{reported_already[0]}`", given, "Each layer sets its own.")
    own_seed = given.get_config().get("seed") if isinstance(given, keras.initializers.Initializer) else None
    if own_seed is not None and seed is not None:
        raise bad_argument("seed", "None for an initializer with a seed of its own", seed)
    if isinstance(own_seed, dict):
        return (lambda weight, own: reported(given, weight, None)), None
    return (lambda weight, own: reported(given, weight, own)), _or_any(seed if own_seed is None else own_seed)


def _or_any(seed: int | None) -> int:
    return random.randint(1, 10**9) if seed is None else seed


def _auto(weight: Weight, activation: str, slope: float | None, seed: int | None) -> Any:
    if weight.recurrent:
        chosen = Orthogonal()
    elif activation == "selu":
        chosen = LecunNormal()
    elif activation not in _RELU_FAMILY:
        chosen = GlorotNormal()
    elif activation == "leaky_relu":
        chosen = HeNormal(gain=calculate_gain("leaky_relu", slope))
    else:
        chosen = HeNormal(gain={"gelu": "gelu", "silu": "silu", "swish": "silu"}.get(activation))
    return reported(chosen, weight, seed)


def reported(initializer: Any, weight: Weight, seed: int | None) -> Any:
    """Return `initializer` with `seed` (None: its own), with what `weight` is, if it takes that."""
    config = dict(initializer.get_config()) if isinstance(initializer, keras.initializers.Initializer) else {}
    if "seed" in config:
        config["seed"] = initializer.seed if seed is None else seed
    if isinstance(initializer, VarianceScaling | Orthogonal):
        reading = asdict(weight.reading)
        if isinstance(initializer, Orthogonal):
            reading["blocks"] = reading.pop("groups")
            if weight.heads is not None:
                reading |= _of_heads(weight, weight.heads)
        if weight.inner:
            reading["gain"] = 1.0
        return type(initializer).from_config({**config, **reading})
    # Keras's own, and those of its classes that only choose a setting, are ours with the same setting.
    if type(initializer).__call__ is keras.initializers.VarianceScaling.__call__:
        named = getattr(variance_scaling, type(initializer).__name__, VarianceScaling)
        law = {name: getattr(initializer, name) for name in ("scale", "mode", "distribution")} if named is VarianceScaling else {}
        return reported(named(**law, seed=initializer.seed), weight, seed)
    if type(initializer) is keras.initializers.Orthogonal:
        return reported(Orthogonal(initializer.gain, initializer.seed), weight, seed)
    return type(initializer).from_config(config) if "seed" in config else initializer


def _of_heads(weight: Weight, heads: int) -> dict[str, Any]:
    """Return the axes of the matrices of an attention layer's heads: one for all where they fit beside each other, else one for each."""
    axes = weight.axes
    if heads not in axes.inputs:
        joint = tuple(sorted((*axes.outputs, heads)))
        return {"output_axes": joint} if axes.size(joint) <= axes.size(axes.inputs) else {}
    return {} if axes.size(axes.inputs) <= axes.size(axes.outputs) else {"input_axes": tuple(i for i in axes.inputs if i != heads)}


def _why_left(weight: Weight) -> str:
    """Return why a weight stays as it is, or nothing."""
    variable = weight.variable
    if not isinstance(variable, keras.Variable) or not keras.backend.is_float_dtype(variable.dtype):
        return "left: quantized, or with LoRA"
    return "" if variable.trainable and weight.layer.trainable else "left: frozen"


def _left(layer: Any, variable: Any, why: str) -> InitializedWeight:
    is_variable = isinstance(variable, keras.Variable)
    place, name = (_place(layer, variable), variable.name) if is_variable else (layer.path, "kernel")
    return InitializedWeight(place, name, tuple(variable.shape), None, None, None, None, None, _std(variable), why)


def _row(weight: Weight, chosen: Any) -> InitializedWeight:
    variable, axes = weight.variable, weight.axes
    return InitializedWeight(
        layer=_place(weight.layer, variable),
        weight=variable.name,
        shape=tuple(variable.shape),
        kind=weight.reading.kind,
        fan_in=axes.fan_in,
        fan_out=axes.fan_out,
        initializer=getattr(chosen, "__name__", type(chosen).__name__),
        std_wanted=chosen.variance(variable.shape) ** 0.5 if isinstance(chosen, VarianceScaling | Orthogonal) else None,
        std_given=0.0,
    )


def _std(variable: Any) -> float:
    return float(np.std(ops.convert_to_numpy(ops.cast(variable, "float32"))))


def _place(layer: Any, variable: Any) -> str:
    """Return the path of the layer that owns the variable."""
    return variable.path.rpartition("/")[0] or layer.name
