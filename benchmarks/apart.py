"""A function in a new process: what one measurement leaves in memory does not reach the next."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `function`, a module's own, returns in a new process with this process's environment."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()
