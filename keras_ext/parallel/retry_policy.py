"""When a trial whose process dies or hangs is given up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """When a trial is given up.

    Args:
        max_retries: how often a trial whose process died is run again.
        trial_timeout: seconds after which a trial fails; None: never.
    """

    max_retries: int = 2
    trial_timeout: float | None = None
