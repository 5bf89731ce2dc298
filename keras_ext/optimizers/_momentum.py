"""A momentum that changes from step to step."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_ext._checks import bad_argument
from keras_ext.optimizers._base import ExactOptimizer


class VariesMomentum(ExactOptimizer):
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
