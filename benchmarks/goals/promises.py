"""What the project promises of its figures: each bound, and the sentence or the row of a table that makes the promise.

The bound of a sentence is its number and half of that number's last digit, or twice a number that it calls "some". The bound of a row of
the table is the next tenth over its largest figure, and at most 1, to two digits. What misses its bound stays here, so that
`python -m benchmarks --check` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.goals.measured import Find, Measured, every_other, figure, more, number, ours, study
from benchmarks.measuring import measure

README, FIGURES, SCALING, TUNERS = "README.md", "docs/benchmarks.md", "docs/scaling.md", "docs/tuners.md"
PAGE = "benchmarks/results/results.md"
# What is no sentence anywhere, but what the part is made for.
AIM = ""
TENSORFLOW, JAX, TORCH = ("tensorflow",), ("jax",), ("torch",)


@dataclass(frozen=True)
class Goal:
    """One promise.

    Args:
        quoted: the sentence, or the beginning of a table's row, as it stands in `source`.
        source: the file.
        find: finds what it is compared with.
        at_most: its bound, in the figure's own unit.
        at_least: the bound of what is to be large.
    """

    quoted: str
    source: str
    find: Find
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        """The bound as a person reads it."""
        return f"at most {self.at_most:.4g}" if self.at_least is None else f"at least {self.at_least:.4g}"


IMAGES, LARGE, SMALL, TABLE = "16 x 56 x 56 x 32", "4 of 2,048 x 2,048", "64 of 64 x 64", "1 of 500,000 x 64, 4,096 ids"
BN, CLIPPING = "BatchNormalization", "GradientClipping global_norm"
# Ours is no slower.
EVEN = 1.005
# Row, group, part, case, bound.
ROWS = (
    (f"`{BN}`, {IMAGES}", "layers", BN, IMAGES, 0.7),
    ("the same in mixed_bfloat16", "layers", BN, f"{IMAGES}, mixed_bfloat16", EVEN),
    ("the same, channels first", "layers", BN, "16 x 32 x 56 x 56, channels on axis 1", EVEN),
    (f"`{BN}`, 64 x 7 x 7 x 1024", "layers", BN, "64 x 7 x 7 x 1024", 0.3),
    (f"`{BN}`, 1024 x 256", "layers", BN, "1024 x 256", EVEN),
    (f"`Dropout`, {IMAGES}", "layers", "Dropout", IMAGES, 0.6),
    ("`Dropout`, 1024 x 256", "layers", "Dropout", "1024 x 256", 0.7),
    ("`SGD` with momentum, 4 weights of 2048 x 2048", "optimizers", "SGD, momentum", LARGE, EVEN),
    ("`Adagrad`, the same", "optimizers", "Adagrad", LARGE, EVEN),
    ("`RMSprop`, the same", "optimizers", "RMSprop", LARGE, EVEN),
    ("`Adam`, the same", "optimizers", "Adam", LARGE, EVEN),
    ("`SGD` with momentum, 64 weights of 64 x 64", "optimizers", "SGD, momentum", SMALL, EVEN),
    ("`Adagrad`, the same", "optimizers", "Adagrad", SMALL, EVEN),
    ("`RMSprop`, the same", "optimizers", "RMSprop", SMALL, EVEN),
    ("`Adam`, the same", "optimizers", "Adam", SMALL, EVEN),
    ("`Adagrad`, 4,096 ids of an embedding of 500,000 x 64", "optimizers", "Adagrad", TABLE, 0.1),
    ("`Adam(lazy=True)` there, over Keras's `Adam`", "optimizers", "Adam, lazy", TABLE, 0.1),
    ("`GradientClipping`, 4 weights of 2048 x 2048, over `global_clipnorm`", "clipping", CLIPPING, LARGE, EVEN),
    ("the same, 64 weights of 64 x 64", "clipping", CLIPPING, SMALL, EVEN),
)
# An optimizer in a process of its own: eight weights.
EIGHT = "8 of 2,048 x 2,048, peak memory of the process"
NAMED = {
    *((group, part, case) for _, group, part, case, _ in ROWS),
    *(("memory", part, EIGHT) for _, group, part, _, _ in ROWS if group == "optimizers"),
    ("initializers", "HeNormal", "8 x 8"),
}

MONITOR = "SaturationMonitor"
TRIALS, DENSE, PICTURES = "digits, 3 trials", "dense, digits: fit", "convolutional: fit"


def goals() -> Iterator[Goal]:
    """Yield every goal."""
    for row, group, part, case, bound in ROWS:
        backends = TENSORFLOW if case == TABLE else (*TENSORFLOW, *JAX, *TORCH)
        yield Goal(f"| {row} |", FIGURES, figure(group, part, case, backends=backends), bound)
    small = "some ten microseconds more for each small one"
    yield Goal(small, FIGURES, figure("initializers", "HeNormal", "8 x 8", more), 0.02)
    yield from _optimizers_memory()
    yield Goal("Below 1 ours is faster.", PAGE, every_other(("layers", "memory", "initializers", "optimizers", "clipping"), NAMED), EVEN)
    yield from _monitor()
    yield from _broken_layers()
    yield from _searches()


def _optimizers_memory() -> Iterator[Goal]:
    quoted = ".89 to .94 of Keras's in a TensorFlow graph, .82 to 1.00 on PyTorch, 1.00 with XLA and 1.00 to 1.03 on JAX"
    for part in ("SGD, momentum", "Adagrad", "RMSprop", "Adam"):
        for backends, bound in ((TENSORFLOW, 1.005), (JAX, 1.035), (TORCH, 1.005)):
            yield Goal(quoted, FIGURES, figure("memory", part, EIGHT, backends=backends), bound)


def _monitor() -> Iterator[Goal]:
    for quoted, backends, bounds in (
        ("6 % to the trials of a KerasTuner search on the digits", TENSORFLOW, {TRIALS: 6.5}),
        ("7 % to a fit of 10 epochs of a small network on them", TENSORFLOW, {DENSE: 7.5}),
        ("1 % to three epochs of 60,000 pictures of 28 x 28", TENSORFLOW, {PICTURES: 1.5}),
        ("it adds 10 to 12 % to these trials", JAX, {TRIALS: 12.5}),
        ("a quarter to that fit", JAX, {DENSE: 25.5}),
        ("3, 7 and 14 %", JAX, {PICTURES: 14.5}),
        ("On PyTorch it adds 1 to 2 % to each.", TORCH, {TRIALS: 2.5, DENSE: 2.5, PICTURES: 2.5}),
        ("would take .6 % longer on TensorFlow", TENSORFLOW, {"ResNet50, pictures of 224": 0.65}),
        (".4 % on JAX for 500 steps of 64", JAX, {"ResNet50, pictures of 224": 0.45}),
        ("whose steps take under a second, 3 %", (*TENSORFLOW, *JAX, *TORCH), {"ResNet50, pictures of 32 x 32: 500": 3.5}),
    ):
        for case, bound in bounds.items():
            yield Goal(quoted, FIGURES, figure("monitor", MONITOR, case, backends=backends), bound)
    for case in (TRIALS, DENSE, PICTURES):
        yield Goal("a percent or two of the training time", AIM, figure("monitor", MONITOR, case), 2.5)
    for layers in (10, 100, 300):
        quoted = "about two and a half training steps"
        yield Goal(quoted, FIGURES, figure("monitor", MONITOR, f"a look at {layers} dense", backends=TENSORFLOW), 2.75)
    rise = "rise of a fit's peak memory"
    yield Goal(
        "by 115 MB with a ResNet50", FIGURES, figure("monitor", MONITOR, f"ResNet50, pictures of 32 x 32: {rise}", ours, TENSORFLOW), 115.5
    )
    for kind in ("100 dense layers of 64 units", "8 dense layers of 1,024 units", "a small convolutional network"):
        yield Goal("by 24 to 65 MB with small", FIGURES, figure("monitor", MONITOR, f"{kind}: {rise}", ours, TENSORFLOW), 65.5)
    beside = figure("monitor", MONITOR, "dense, digits, beside TensorBoard", backends=TENSORFLOW)
    yield Goal("Below 1 ours is faster.", PAGE, beside, EVEN)


def _broken_layers() -> Iterator[Goal]:
    def share(part: str, whole: str) -> Find:
        return study("broken_layers", lambda kept: _share(kept["all"][part], kept["all"][whole]), TENSORFLOW)

    def told(steps: tuple[int, ...], *faults: str) -> Find:
        def read(kept: dict[str, Any]) -> Measured:
            by_then = sum(kept["onset"][fault].get(f"step {step}", 0) for fault in faults for step in steps)
            return _share(by_then, sum(kept["faults"][fault]["runs"] for fault in faults))

        return study("broken_layers", read, TENSORFLOW)

    def with_a_warning(kept: dict[str, Any]) -> Measured:
        return _share(kept["clean"]["with a warning"], kept["clean"]["runs"])

    for quoted, find, bound in (
        ("the broken one in 149 of the 151 runs that had a critical finding", share("right", "critical"), 149 / 151),
        ("told before the first step in all of their 160 runs", told((0,), "scale 0", "bias -10"), 1.0),
        ("by the tenth step in 154 of 160", told((0, 1, 10), "scale x 30", "scale / 30"), 154 / 160),
        ("told by the end of the first epoch in 92 %", share("told in epoch 1, harmed", "harmed"), 0.915),
        ("critical in 71 %", share("critical, harmed", "harmed"), 0.705),
    ):
        yield Goal(quoted, FIGURES, find, at_least=bound)
    yield Goal("The 80 unbroken networks got no finding.", FIGURES, study("broken_layers", with_a_warning, TENSORFLOW), 0.0)


def _share(part: int, whole: int) -> Measured:
    return number(part / whole, f"{part} of {whole}")


def _searches() -> Iterator[Goal]:
    yield from _savings()
    for quoted, way, backends, bound in (
        (".3 on TensorFlow, where KerasTuner alone adds 4.8", "watched", TENSORFLOW, 0.35),
        (".02 on PyTorch", "watched", TORCH, 0.025),
        (".1 on JAX, where KerasTuner alone adds 8.2", "watched", JAX, 0.15),
        (".02 with `--isolate` on all three", "isolated", (*TENSORFLOW, *JAX, *TORCH), 0.025),
    ):

        def grown(kept: dict[str, Any], way: str = way) -> Measured:
            return number(kept["ways"][way]["a_trial"], f"{kept['ways'][way]['a_trial']} MiB a trial")

        yield Goal(quoted, FIGURES, study("trial_memory", grown, backends), bound)
    for quoted, read, bound in (
        ("a trial keeps 12 KB of main memory", lambda kept: kept["bytes in memory of a trial"] / 1e3, 12.5),
        ("is written whole, 141 bytes for each trial", _bytes_of_a_trial, 141.5),
    ):
        find = study("oracle_cost", lambda kept, read=read: number(read(kept), f"{read(kept):.1f}"), JAX)
        yield Goal(quoted, SCALING, find, bound)
    yield Goal("All but the grid find it", TUNERS, study("tuners", _worst_tuner, TORCH), at_least=0.97775)
    for quoted, name, bound in (
        ("98.1 % validation accuracy", "validation accuracy", 0.9805),
        ("97.5 % on the samples that no trial saw", "test accuracy", 0.9745),
    ):
        find = study("digits_search", lambda kept, name=name: number(kept[name], f"{kept[name]:.1%}"), TENSORFLOW)
        yield Goal(quoted, README, find, at_least=bound)


def _savings() -> Iterator[Goal]:
    def saved(name: str, part: str) -> Find:
        def read(kept: dict[str, Any]) -> Measured:
            from benchmarks.studies.hopeless_trials import MONITOR as WATCHED  # brings Keras with it
            from benchmarks.studies.hopeless_trials import rows_of

            found = [row[name] for _, _, way, row in rows_of(kept) if way == WATCHED]
            if name == "time":
                return Measured("", measure.spread(found), f"{measure.spread(found)}, {len(found)} seeds")
            return number(max(found), f"at most {max(found)} in each of {len(found)} seeds")

        return study("hopeless_trials", read, TENSORFLOW, part)

    for quoted, name, part, bound in (
        ("took .79, .79, .82, .88 and .88 of the time without it", "time", "digits", 0.825),
        ("with the same best score, and none of the trials", "samples lost", "digits", 0.0),
        ("none of the trials that end in the best tenth was stopped", "elite stopped", "digits", 0.0),
        ("it took .84, .84, .91, .98 and 1.00 of the time with the same best score", "time", "breast_cancer", 1.005),
        ("it took .84, .84, .91, .98 and 1.00 of the time with the same best score", "samples lost", "breast_cancer", 0.0),
        ("three of the twenty trials of the best tenth were stopped", "elite stopped", "breast_cancer", 0.0),
    ):
        yield Goal(quoted, FIGURES, saved(name, part), bound)


def _bytes_of_a_trial(kept: dict[str, Any]) -> float:
    """Return the bytes that a trial adds to `oracle.json`."""
    trials = {cost["finished"] + len(cost["seconds"]): cost["oracle_bytes"] for cost in kept["costs"] if cost["oracle"] == "random"}
    fewest, most = min(trials), max(trials)
    return (trials[most] - trials[fewest]) / (most - fewest)


def _worst_tuner(kept: dict[str, Any]) -> Measured:
    """Return the lowest of the tuners' median best scores, the grid's left out."""
    (found,) = (value for title, value in kept.items() if title.startswith("replayed"))
    best = {
        kind: median(max(score for spent, score in course if spent <= found["budget"]) for course in courses)
        for kind, courses in found["courses"].items()
        if kind != "grid"
    }
    worst = min(best, key=lambda kind: best[kind])
    return number(best[worst], f"{best[worst]:.4f}, {worst}")
