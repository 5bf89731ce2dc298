"""What a search's oracle costs for each trial, by the number of trials before it: its own work, and that of its files.

`python -m benchmarks.studies.oracle_cost --json oracle_cost.json` asks for trials, tells scores and trains nothing.
"""

import contextlib
import io
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_tuner
import numpy as np

from benchmarks.measuring import machine
from benchmarks.studies import frame
from keras_ext._backend import keras_private
from keras_ext.search import MLP
from keras_ext.search.atomic import whole_files
from keras_ext.search.tuners import TUNERS

# Each number of trials is measured by so many rounds, or by fewer where they take too long.
ROUNDS = 10
FEWEST = 2
# Further numbers of trials, which show how the files grow.
FURTHER = {"random": (4_000,)}
# Trials over which the memory of one is averaged.
OF_MEMORY = 200
# Larger than any search: KerasTuner's Bayesian oracle draws at random until it has so many trials.
NEVER = 10**9


@dataclass(frozen=True)
class Cost:
    """One oracle with some trials behind it.

    Args:
        oracle: its name on the command line.
        finished: trials before the first round.
        seconds: of each round: a trial is asked for, scored and ended.
        cpu_seconds: of these, what the processor worked; less than `seconds` by the wait for the disk, and for others on the same core.
        in_files: of these, the seconds in which state was collected and written.
        oracle_bytes: size of `oracle.json` after the last round.
        trial_bytes: median size of the `trial.json` of the rounds.
    """

    oracle: str
    finished: int
    seconds: list[float]
    cpu_seconds: list[float]
    in_files: list[float]
    oracle_bytes: int
    trial_bytes: int


class Clock:
    """Adds up the seconds in the functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, with its seconds added."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def make(kind: str, folder: str) -> Any:
    """Return a tuner of the space that `keras-ext search` gives the digits; its oracle never runs out of trials."""
    space = MLP((64,), classes=10, samples=1150)
    more: dict[str, Any] = {"hyperband_iterations": NEVER, "max_epochs": 81} if kind == "hyperband" else {"max_trials": NEVER}
    objective = keras_tuner.Objective("score", "max")
    with contextlib.redirect_stdout(io.StringIO()):
        tuner = TUNERS[kind](space, objective=objective, seed=1, directory=folder, project_name="trials", **more)
    tuner.oracle.verbose = 0
    return tuner


def score_of(trial: Any, scores: np.random.Generator) -> float:
    """Return a score that hangs on the hyperparameters, with noise: of noise alone a Bayesian oracle has nothing to climb."""
    values = trial.hyperparameters.values
    places = [hp.value_to_prob(values[hp.name]) for hp in trial.hyperparameters.space if hp.name in values]
    return float(1 - np.mean((np.asarray(places) - 0.6) ** 2) + 0.01 * scores.normal())


def one_round(oracle: Any, scores: np.random.Generator) -> str:
    """Ask for a trial, score it and end it; returns its name."""
    trial = oracle.create_trial("tuner0")
    assert trial.status == "RUNNING", trial.status
    oracle.update_trial(trial.trial_id, {"score": score_of(trial, scores)})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    return trial.trial_id


def fill(oracle: Any, finished: int, scores: np.random.Generator) -> None:
    """Bring the oracle to so many trials, without files; a Bayesian one draws them at random, as fitting takes long."""
    is_bayesian = hasattr(oracle, "num_initial_points")
    if is_bayesian:
        oracle.num_initial_points = NEVER
    oracle.save = lambda: None
    with keras_private.keras_tuner_saves_json_with(lambda path, content: ""):
        while len(oracle.end_order) < finished:
            one_round(oracle, scores)
    del oracle.save
    if is_bayesian:
        oracle.num_initial_points = None


@contextlib.contextmanager
def timed_files(oracle: Any) -> Iterator[Clock]:
    """Measure what the state files take while the block runs."""
    clock, trial = Clock(), keras_tuner.engine.trial.Trial
    kept = trial.save
    oracle.save, trial.save = clock.wrap(oracle.save), clock.wrap(trial.save)
    try:
        yield clock
    finally:
        del oracle.save
        trial.save = kept


def measure(kind: str, tuner: Any, finished: int, limit: float, scores: np.random.Generator) -> Cost:
    """Return what rounds cost after `finished` trials; those behind them take at most about `limit` seconds."""
    oracle, seconds, cpu_seconds, in_files, names = tuner.oracle, [], [], [], []
    fill(oracle, finished, scores)
    began = time.perf_counter()
    with whole_files(), timed_files(oracle) as clock:
        while len(seconds) < ROUNDS and (len(seconds) < FEWEST or time.perf_counter() - began < limit):
            clock.seconds, begin, begin_cpu = 0.0, time.perf_counter(), time.process_time()
            names.append(one_round(oracle, scores))
            seconds.append(time.perf_counter() - begin)
            cpu_seconds.append(time.process_time() - begin_cpu)
            in_files.append(clock.seconds)
    sizes = [Path(tuner.get_trial_dir(name), "trial.json").stat().st_size for name in names]
    size = Path(tuner.project_dir, "oracle.json").stat().st_size
    return Cost(kind, finished, seconds, cpu_seconds, in_files, size, round(statistics.median(sizes)))


def memory_of_a_trial() -> int:
    """Return the bytes of main memory that an oracle keeps of one trial."""
    with tempfile.TemporaryDirectory() as folder:
        oracle, scores = make("random", folder).oracle, np.random.default_rng(0)
        fill(oracle, 1, scores)
        tracemalloc.start()
        fill(oracle, 1 + OF_MEMORY, scores)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return round(kept / OF_MEMORY)


def section(kept: dict[str, Any]) -> str:
    """Return the figures as a person reads them."""
    facts = f"{kept['hyperparameters']} hyperparameters; a trial keeps {kept['bytes in memory of a trial']:,} bytes of main memory."
    return f"{facts}\n\n{text([Cost(**cost) for cost in kept['costs']])}"


def text(costs: list[Cost]) -> str:
    """Return the costs as a table in Markdown."""
    head = [
        "oracle",
        "finished",
        "rounds",
        "ms a trial",
        "lowest",
        "highest",
        "of CPU",
        "in files",
        "trials a second",
        "KB of `oracle.json`",
    ]
    rows = []
    for c in costs:
        median = statistics.median(c.seconds)
        shown = (median, min(c.seconds), max(c.seconds), statistics.median(c.cpu_seconds), statistics.median(c.in_files))
        times = [f"{1000 * s:,.1f}" for s in shown]
        rows.append([c.oracle, f"{c.finished:,}", str(len(c.seconds)), *times, f"{1 / median:.3g}", f"{c.oracle_bytes / 1000:,.0f}"])
    return frame.markdown(head, rows)


def _kinds(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    kinds = [kind.strip() for kind in value.split(",")]
    if set(kinds) - set(TUNERS):
        raise click.BadParameter(f"must be some of {', '.join(TUNERS)}, with commas, got {value!r}.")
    return kinds


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    if not all(number.strip().isdigit() and int(number) for number in value.split(",")):
        raise click.BadParameter(f"must be whole numbers of at least 1, with commas, got {value!r}.")
    return [int(number) for number in value.split(",")]


@click.command()
@click.option("--oracles", default=",".join(sorted(TUNERS, key="bayesian".__eq__)), show_default=True, callback=_kinds, help="With commas.")
@click.option(
    "--finished",
    default="10,100,1000",
    show_default=True,
    callback=_numbers,
    help=f"Trials before those that are measured, with commas; {', '.join(f'{kind} also at {n[0]}' for kind, n in FURTHER.items())}.",
)
@click.option("--limit", default=40.0, show_default=True, help=f"Seconds after which a number has rounds enough, if it has {FEWEST}.")
@frame.json_option
def main(oracles: list[str], finished: list[int], limit: float, out: Path | None) -> None:
    """Measure what the oracle of a search takes for each trial."""
    header = machine.header("python -m benchmarks.studies.oracle_cost")
    memory, costs = memory_of_a_trial(), []
    for kind in oracles:
        numbers = [*finished, *FURTHER.get(kind, ())]
        with tempfile.TemporaryDirectory() as folder:
            tuner, scores = make(kind, folder), np.random.default_rng(0)
            for number in sorted(numbers):
                costs.append(measure(kind, tuner, number, limit, scores))
                click.echo(text(costs[-1:]).splitlines()[2], err=True)
            dimensions = len(tuner.oracle.get_space().space)
    facts = {"hyperparameters": dimensions, "bytes in memory of a trial": memory}
    kept = {"header": header, **facts, "costs": [asdict(c) for c in costs]}
    frame.finish(kept, section(kept), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.oracle_cost")
