"""The Ray cluster that a search runs on."""

import contextlib
import math
import os
from collections.abc import Iterator

import ray

from keras_ext._checks import BadInput
from keras_ext._wording import one_line


@contextlib.contextmanager
def connected(address: str | None, at_once: int | None, needs: dict[str, float]) -> Iterator[None]:
    """Connect to Ray while the block runs: to the cluster at `address`, to that of this process, or to one of this machine alone.

    Raises:
        BadInput: there is no cluster at `address`.
    """
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        cores = os.cpu_count() or 1
        wanted = cores if at_once is None else math.ceil(at_once * needs["CPU"])
        ray.init("local", num_cpus=max(cores, wanted), include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BadInput(f"no Ray cluster at {address}: {one_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def room_for(needs: dict[str, float], at_once: int | None, is_shared: bool) -> tuple[dict[str, float], int]:
    """Return what a trial gets, and how many run at once.

    Args:
        needs: what a trial needs.
        at_once: None for as many as fit.
        is_shared: whether trials get equal shares of the GPUs.

    Raises:
        BadInput: no machine of the cluster has what one trial needs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if is_shared and any(node.get("GPU") for node in nodes):
        gpus = sum(node.get("GPU", 0) for node in nodes)
        share = 1.0 if at_once is None else gpus / at_once
        needs = {**needs, "GPU": float(math.floor(share)) if share >= 1 else 1 / math.ceil(1 / share)}
    fits = [min((math.floor(node.get(k, 0) / v + 1e-9) for k, v in needs.items() if v), default=1) for node in nodes]
    if not any(fits):
        reported = ", ".join(f"{amount:g} {name}" for name, amount in needs.items())
        most = ", ".join(f"{max(node.get(name, 0) for node in nodes):g} {name}" for name in needs)
        raise BadInput(f"a trial needs {reported}, and no machine of the cluster has more than {most}. Ask for less, or add a machine.")
    return needs, sum(fits) if at_once is None else at_once
