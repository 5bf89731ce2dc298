"""How a network steps, as hyperparameters: the optimizer, its rate over time, and the clipping of its gradients."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext import optimizers, schedules
from keras_ext._backend.keras_private import conditional_scope
from keras_ext._checks import bad_argument, in_range, integer, items, one_of

# Lowest, usual and highest rate: a decade or so to both sides of what the rule is commonly run at.
LEARNING_RATES = {"adam": (1e-4, 1e-3, 3e-2), "rmsprop": (1e-4, 1e-3, 3e-2), "adagrad": (1e-3, 1e-2, 0.3), "sgd": (1e-3, 1e-2, 0.5)}

# Lowest, usual and highest threshold: norms and values in units of the gradient, AGC's ratio, AutoClip's percentile, ZClip's z-score.
# Those of the last three are about what their papers tried.
THRESHOLDS = {
    "value": (0.01, 0.5, 5.0),
    "norm": (0.1, 1.0, 10.0),
    "global_norm": (0.1, 1.0, 10.0),
    "adaptive": (0.01, 0.04, 0.16),
    "percentile": (1.0, 10.0, 90.0),
    "zscore": (1.5, 2.5, 5.0),
}
CLIPPINGS = ("none", "global_norm")
ALL_CLIPPINGS = ("none", *THRESHOLDS)

SCHEDULES = ("constant", "warmup_cosine", "one_cycle", "cyclic")
# Shares of a training: of its steps up to the full rate, and of half a cycle, so that it ends with the fifth at the lowest rate.
_WARMUP, _HALF_CYCLE = 0.05, 0.1
# Up, the peak and down.
_FEWEST_STEPS = 3
# Of the highest and lowest rates of a cycle; Smith (2017), section 3.3, takes a third or a fourth.
_CYCLE = 4.0

_CLASSES = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "adagrad": optimizers.Adagrad, "sgd": optimizers.SGD}


def learning_rate(hp: Any, optimizer: str = "adam", name: str = "learning_rate") -> float:
    """Choose a learning rate on a logarithmic scale, from the range that is usual for `optimizer`.

    >>> import keras_tuner
    >>> learning_rate(keras_tuner.HyperParameters())
    0.001
    """
    one_of("optimizer", optimizer, LEARNING_RATES)
    low, usual, high = LEARNING_RATES[optimizer]
    return hp.Float(f"{name}_{optimizer}", low, high, default=usual, sampling="log")


def schedule(hp: Any, rate: float, steps: int, name: str = "schedule", kinds: Sequence[str] = SCHEDULES) -> Any:
    """Choose the course of a learning rate over a training; returns `rate` itself, or a schedule whose highest rate it is.

    - `"constant"`: the rate as it is.
    - `"warmup_cosine"`: from 0 to the rate in a twentieth of the steps, and down to 0 along half a cosine wave.
    - `"one_cycle"`: `schedules.OneCycle` with its defaults.
    - `"cyclic"`: `schedules.CyclicalLearningRate`, five times from a quarter of the rate to all of it and back.

    Args:
        hp: KerasTuner's hyperparameters.
        rate: the highest rate, above 0.
        steps: of the training: epochs times batches an epoch; fewer than three count as three.
        name: of the hyperparameter.
        kinds: to choose from.

    Raises:
        ValueError: `rate` or `steps` is out of range, `kinds` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> hp.values["schedule"] = "warmup_cosine"
        >>> course = schedule(hp, 0.1, steps=1000)
        >>> [round(float(course(step)), 4) for step in (0, 50, 525, 999)]
        [0.0, 0.1, 0.05, 0.0]

    References:
        Goyal et al. (2017), arXiv:1706.02677, section 2.2, for the warm-up; Loshchilov and Hutter (2017), arXiv:1608.03983, equation 5, for
        the cosine; Smith and Topin (2018), arXiv:1708.07120, for one cycle; Smith (2017), arXiv:1506.01186, section 3, for cycles.
    """
    rate, steps = float(in_range("rate", rate, 0.0, closed="neither")), max(_FEWEST_STEPS, integer("steps", steps))
    found = items(kinds)
    if not found or not all(kind in SCHEDULES for kind in found):
        raise bad_argument("kinds", f"a sequence of some of {', '.join(map(repr, SCHEDULES))}", kinds)
    chosen = hp.Choice(name, list(found))
    if chosen == "warmup_cosine":
        first = max(1, round(_WARMUP * steps))
        return schedules.Warmup(keras.optimizers.schedules.CosineDecay(rate, steps - first), first)
    if chosen == "one_cycle":
        return schedules.OneCycle(rate, steps)
    if chosen == "cyclic":
        return schedules.CyclicalLearningRate(rate / _CYCLE, rate, max(1, round(_HALF_CYCLE * steps)))
    return rate


def clipping(hp: Any, optimizer: Any, name: str = "clipping", rules: Sequence[str] = CLIPPINGS) -> Any:
    """Choose a rule of gradient clipping, with its threshold, or none; returns `optimizer`, wrapped or as it was.

    Each rule has a threshold of its own, `clipping_threshold_norm` and so on, which exists only where that rule was chosen.

    Args:
        hp: KerasTuner's hyperparameters.
        optimizer: a Keras optimizer.
        name: of the hyperparameter.
        rules: to choose from: "none", and those of `optimizers.GradientClipping`: "value", "norm", "global_norm", "adaptive" (AGC),
            "percentile" (AutoClip) and "zscore" (ZClip).

    Raises:
        ValueError: `rules` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> type(clipping(keras_tuner.HyperParameters(), optimizers.Adam())).__name__
        'Adam'

    References:
        Each rule's docstring in `keras_ext.optimizers.clipping_rules` has its own.
    """
    found = items(rules)
    if not found or not all(rule in ALL_CLIPPINGS for rule in found):
        raise bad_argument("rules", f"a sequence of some of {', '.join(map(repr, ALL_CLIPPINGS))}", rules)
    chosen, made = hp.Choice(name, list(found)), optimizer
    for rule in found:
        if rule == "none":
            continue
        with conditional_scope(hp, name, [rule]):
            if rule == chosen:
                low, usual, high = THRESHOLDS[rule]
                threshold = hp.Float(f"{name}_threshold_{rule}", low, high, default=usual, sampling="log")
                made = optimizers.GradientClipping(optimizer, rule=rule, threshold=threshold)
    return made


def optimizer(
    hp: Any,
    name: str = "optimizer",
    gradient_accumulation_steps: int | None = None,
    *,
    rules: Sequence[str] = CLIPPINGS,
    averages: bool = False,
    steps: int | None = None,
) -> keras.optimizers.Optimizer:
    """Choose an optimizer with its learning rate, its momentum where it has one, and its clipping.

    Hyperparameters of one optimizer exist only where it was chosen, and SGD's momentum only where it has one.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        gradient_accumulation_steps: take one step for so many batches.
        rules: of clipping, see `clipping`.
        averages: choose Adam's `beta_1` and `beta_2` and RMSprop's `rho` too, the shares that their averages keep at each step.
        steps: of the training; then the course of the rate is a choice too, see `schedule`.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> import keras_tuner
        >>> type(optimizer(keras_tuner.HyperParameters())).__name__
        'Adam'

    References:
        Nesterov (1983) and Sutskever, Martens, Dahl and Hinton (2013), On the importance of initialization and momentum in deep learning,
        for momentum; Choi et al. (2019), arXiv:1910.05446, appendix D, for searching betas.
    """
    chosen = hp.Choice(name, list(_CLASSES))
    arguments: dict[str, Any] = {"gradient_accumulation_steps": gradient_accumulation_steps}
    for option in _CLASSES:
        with conditional_scope(hp, name, [option]):
            if option == chosen:
                arguments["learning_rate"] = learning_rate(hp, option)
                arguments |= _momentum(hp) if option == "sgd" else _averages(hp, option) if averages else {}
    if steps is not None:
        arguments["learning_rate"] = schedule(hp, arguments["learning_rate"], steps)
    return clipping(hp, _CLASSES[chosen](**arguments), rules=rules)


def _momentum(hp: Any) -> dict[str, Any]:
    """Choose SGD's kind, and its momentum where that has one."""
    kind, found = hp.Choice("sgd", ["plain", "momentum", "nesterov"]), {}
    with conditional_scope(hp, "sgd", ["momentum", "nesterov"]):
        if kind != "plain":
            found = {"momentum": hp.Choice("momentum", [0.5, 0.9, 0.95, 0.99], default=0.9), "nesterov": kind == "nesterov"}
    return found


def _averages(hp: Any, optimizer: str) -> dict[str, Any]:
    """Choose the shares that the averages of an optimizer keep at each step."""
    if optimizer == "adam":
        return {
            "beta_1": hp.Choice("beta_1", [0.8, 0.9, 0.95], default=0.9),
            "beta_2": hp.Choice("beta_2", [0.95, 0.99, 0.999], default=0.999),
        }
    return {"rho": hp.Choice("rho", [0.8, 0.9, 0.95, 0.99], default=0.9)} if optimizer == "rmsprop" else {}
