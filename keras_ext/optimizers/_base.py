"""The base of the package's optimizers: everything but the rule by which one weight moves."""

import numbers
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_ext import _backend
from keras_ext._checks import MOST_STEPS, bad_argument, flag, in_float32, in_range, integer
from keras_ext._config import config_of
from keras_ext.optimizers import _per_weight
from keras_ext.optimizers._copies import KeepsState
from keras_ext.optimizers._replicas import Replicas
from keras_ext.optimizers._update import Update

# Those of Keras's base, behind `learning_rate`, in its order.
_KERAS_ARGUMENTS = (
    *("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum", "ema_overwrite_frequency"),
    *("loss_scale_factor", "gradient_accumulation_steps", "name"),
)


class ExactOptimizer(Update, Replicas, KeepsState):
    """A Keras optimizer that is exact on repeated rows, and whose clipping, decay and copies do what they say.

    The gradient of an embedding names a row once for each time the batch used it. Keras's optimizers square those parts one by one, which
    is another number than the square of their sum. A subclass gives the abstract methods of `Update`.
    """

    def __init__(
        self,
        learning_rate: Any,
        *keras_arguments: Any,
        lazy: bool = False,
        master_weights: bool = False,
        learning_rate_multipliers: Any = None,
        exclude_from_weight_decay: Any = None,
        exclude_norms_and_biases: bool = False,
        **kwargs: Any,
    ) -> None:
        learning_rate = _checked_rate(learning_rate)
        given = _checked(dict(zip(_KERAS_ARGUMENTS, keras_arguments, strict=True)))
        multipliers = _per_weight.checked_multipliers("learning_rate_multipliers", learning_rate_multipliers)
        excluded = _per_weight.checked_entries("exclude_from_weight_decay", exclude_from_weight_decay)
        super().__init__(learning_rate=learning_rate, **given, **kwargs)
        self.lazy = flag("lazy", lazy)
        self.master_weights = flag("master_weights", master_weights)
        self.exclude_norms_and_biases = flag("exclude_norms_and_biases", exclude_norms_and_biases)
        self.learning_rate_multipliers = multipliers
        self._excluded = excluded
        # Weights that `exclude_from_weight_decay` was given.
        self._excluded_ids: set[Any] = set()
        self._excluded_paths: list[str] = []
        self._masters: list[Any] = []
        self._multipliers: list[float] = []
        self._decays: list[bool] = []
        self._plan = None

    def build(self, variables: Any) -> None:
        """Create the slots of `variables`."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        self._build_slots(variables)
        # Zeros: the first update copies the weight into a master that differs from it.
        self._masters = [self.add_variable_from_reference(v, "master") if self._has_master(v) else None for v in variables]
        self._multipliers = [_per_weight.multiplier(_per_weight.path_of(v), self.learning_rate_multipliers) for v in variables]
        self._decays = [self._decays_weight(v) for v in variables]
        _per_weight.warn_of_idle("learning_rate_multipliers", self.learning_rate_multipliers, variables)
        if self.weight_decay is not None:
            _per_weight.warn_of_idle("exclude_from_weight_decay", self._excluded, variables)
        self._restore_state()

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude weights from weight decay, instead of those excluded so far. A step that is compiled already stays as it is.

        Args:
            var_list: variables.
            var_names: regular expressions; weights whose name has one in it are excluded.
        """
        self._excluded = [f"@{entry}" for entry in _per_weight.checked_entries("var_names", var_names)]
        self._excluded_ids = {self._var_key(v) for v in var_list or []}
        self._excluded_paths = [_per_weight.path_of(v) for v in var_list or []]
        if self.built:
            self._decays = [self._decays_weight(v) for v in self._trainable_variables]
            self._plan = None

    def _decays_weight(self, variable: Any) -> bool:
        if self.weight_decay is None or (self.exclude_norms_and_biases and _per_weight.is_norm_or_bias(variable)):
            return False
        return self._var_key(variable) not in self._excluded_ids and not _per_weight.matches(_per_weight.path_of(variable), self._excluded)

    def without_weight_decay(self) -> list[Any]:
        """Return the weights that are excluded from weight decay; there is nothing to tell before the optimizer is built."""
        return [v for v, decays in zip(self._trainable_variables, self._decays, strict=True) if not decays]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by one step along `grads`."""
        if self.loss_scale_factor is not None:
            # Keras divides by it what it cannot divide.
            grads = [None if g is None else _backend.dense(g) for g in grads]
        return super().apply(grads, trainable_variables)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Give the weights their moving averages, if the optimizer has some."""
        super().finalize_variable_values(var_list)
        if self.use_ema:
            # JAX refuses the steps of a next fit where a weight and its average are one array, as Keras leaves them.
            for variable in var_list:
                variable.assign(ops.copy(variable))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        multipliers, excluded = self._saved_multipliers(), self._saved_exclusions()
        base = super().get_config()
        return config_of(self, base, learning_rate_multipliers=multipliers, exclude_from_weight_decay=excluded)

    # The config names the weights too once they are known: a file or a clone may change the paths in which an expression is found.

    def _saved_multipliers(self) -> dict[str, float]:
        known = zip(self._trainable_variables, self._multipliers, strict=True) if self.built else ()
        return {**self.learning_rate_multipliers, **{f"={_per_weight.path_of(v)}": factor for v, factor in known if factor != 1}}

    def _saved_exclusions(self) -> list[str]:
        entries = [*self._excluded, *(f"={path}" for path in self._excluded_paths)]
        if self.built and entries:
            paths = [_per_weight.path_of(v) for v in self._trainable_variables]
            entries += [f"={path}" for path in paths if _per_weight.matches(path, self._excluded)]
        return list(dict.fromkeys(entries))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: the update decays a weight by its own rate, and with `lazy` those rows alone that it touches."""


class MomentumOptimizer(ExactOptimizer):
    """For optimizers with a momentum: it can follow a course, as the rate follows a schedule.

    The course is computed in the step, from the same count as the rate's schedule: so it keeps time with it in steps that are compiled, in
    several steps an execution, and after a checkpoint, and takes no variable that a file would have to hold.
    """

    # The constructor's name for it.
    momentum_argument = "momentum"
    _course: Callable[[Any], Any] | None = None

    def vary_momentum(self, course: Callable[[Any], Any] | None) -> None:
        """Let the momentum follow `course`, a function of the step; None gives it its constant back.

        A step that is compiled already stays as it is. Copies and files keep the constant alone.

        Raises:
            ValueError: the optimizer was made without momentum, and has no velocity that it could keep.
        """
        if course is not None:
            if not callable(course):
                raise bad_argument("course", "a function of the step, or None", course, error=TypeError)
            if not getattr(self, self.momentum_argument):
                fix = "There is no velocity without it. Make the optimizer with one."
                raise bad_argument(self.momentum_argument, "above 0 where it is to vary", 0.0, fix)
        self._course = course

    def current_momentum(self) -> Any:
        """Return the momentum of the next step: the number that the optimizer was made with, or a tensor where it follows a course."""
        return getattr(self, self.momentum_argument) if self._course is None else ops.convert_to_tensor(self._course(self._iterations))


def _checked_rate(learning_rate: Any) -> Any:
    if isinstance(learning_rate, numbers.Real):
        return float(in_float32("learning_rate", in_range("learning_rate", learning_rate, 0.0)))
    if isinstance(learning_rate, type):
        rule = "a number, a LearningRateSchedule or a function without arguments"
        raise bad_argument("learning_rate", rule, learning_rate, f"Give {learning_rate.__name__}(...).")
    return learning_rate


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of Keras's class, numbers as Python's own, if each is in its range; Keras checks some of them, some late."""
    checked = dict(given)
    if given["weight_decay"] is not None:
        checked["weight_decay"] = in_float32("weight_decay", in_range("weight_decay", given["weight_decay"], 0.0))
    for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
        if given[name] is not None:
            checked[name] = in_float32(name, in_range(name, given[name], 0.0, closed="neither", fix="None switches it off."))
    for name, low in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 0)):
        if given[name] is not None:
            checked[name] = integer(name, given[name], low, MOST_STEPS)
    checked["use_ema"] = flag("use_ema", given["use_ema"])
    checked["ema_momentum"] = in_range("ema_momentum", given["ema_momentum"], 0.0, 1.0)
    return checked
