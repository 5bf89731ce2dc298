"""Where the trials of a search run."""

from dataclasses import dataclass
from typing import Any

from keras_ext._checks import bad_argument, in_range, integer, keep
from keras_ext.search import strategy as strategies
from keras_ext.search.together.side_by_side import models_at_once

# A process of this many trials has not grown by much.
TRIALS_OF_A_PROCESS = 20


@dataclass(frozen=True)
class Placement:
    """Where the trials of a search run, and when one is given up; a search may go on elsewhere than it began.

    Args:
        workers: trials at once. More than one run on Ray.
        ray: address of a Ray cluster to run on; None for this machine.
        gpus_per_trial: share of a GPU, or number of them, that a trial on Ray gets; None for equal shares.
        isolate: number of trials after which a new process takes over; 0: without Ray the trials run in this process, on Ray each has its
            own.
        max_retries: how often a trial whose process died runs again.
        trial_timeout: seconds after which a trial fails; None: never.
        memory_limit: MiB of main memory over which a trial fails; None: never.
        strategy: `"mirrored"`: a trial trains on all devices that it sees. None: on one.
        together: most trials of a process that train at once in one program, `"auto"` or `"off"`; see `watch`. With a limit or a strategy
            they share programs one after another, or with `"off"` none.
    """

    workers: int = 1
    ray: str | None = None
    gpus_per_trial: float | None = None
    isolate: int = 0
    max_retries: int = 2
    trial_timeout: float | None = None
    memory_limit: float | None = None
    strategy: str | None = None
    together: int | str = "auto"

    def __post_init__(self) -> None:
        keep(self, workers=integer("workers", self.workers), isolate=integer("isolate", self.isolate, 0))
        keep(self, max_retries=integer("max_retries", self.max_retries, 0))
        if self.ray is not None and not (isinstance(self.ray, str) and self.ray):
            raise bad_argument("ray", "the address of a cluster, or None", self.ray, 'Such as "auto" or "ray://host:10001".')
        for name in ("gpus_per_trial", "trial_timeout", "memory_limit"):
            value = getattr(self, name)
            if value is not None:
                keep(self, **{name: in_range(name, value, 0, closed="neither")})
        strategies.check(self.strategy)
        if self.together != "auto":  # which asks the device, and that is for the search to do
            models_at_once(self.together)

    @property
    def on_ray(self) -> bool:
        """True where Ray runs the trials."""
        return self.workers > 1 or self.ray is not None or self.gpus_per_trial is not None

    @property
    def trials_of_a_process(self) -> int:
        """Trials that one process of this machine runs; 0: all run in the search's own."""
        return self.isolate or (TRIALS_OF_A_PROCESS if self.has_limits else 0)

    @property
    def has_limits(self) -> bool:
        """True where a trial has a process to itself: what ends a trial ends its process, and devices are set for a whole process."""
        return any(value is not None for value in (self.trial_timeout, self.memory_limit, self.strategy))

    @property
    def bytes_of_a_trial(self) -> int | None:
        """Main memory over which a trial fails."""
        return None if self.memory_limit is None else round(self.memory_limit * 2**20)

    @property
    def resources(self) -> dict[str, Any] | None:
        """The resources of a trial on Ray; None for equal shares."""
        return None if self.gpus_per_trial is None else {"CPU": 1, "GPU": self.gpus_per_trial}
