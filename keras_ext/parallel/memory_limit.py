"""A limit on the main memory of a trial's process."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_CHECKS_A_SECOND = 5
_SECONDS_TO_BE_KILLED = 5


@contextlib.contextmanager
def memory_limit(limit: int | None, exceeds: Callable[[int, int], None]) -> Iterator[None]:
    """Call `exceeds` when the resident set of this process grows over `limit` bytes, so that the search ends it; if not, end it here.

    A limit on addresses (`resource.RLIMIT_AS`) would count what the frameworks reserve and never use.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1 / _CHECKS_A_SECOND):
            if limit is not None and (took := resident()) > limit:
                exceeds(took, limit)
                time.sleep(_SECONDS_TO_BE_KILLED)
                os._exit(1)

    if limit is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def resident() -> int:
    """Return the bytes of main memory that this process has now, or, where the system does not say, the most that it had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
