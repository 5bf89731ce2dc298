"""What lies in a folder of results, as goals are compared with it."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import BACKENDS
from benchmarks.measuring.figure import Figure
from benchmarks.measuring.measure import Spread
from benchmarks.page import json_files
from benchmarks.studies.registry import BY_NAME

# So much longer one whole step may take than another by noise alone.
STEP_NOISE = 0.1


@dataclass(frozen=True)
class Measured:
    """One figure that a goal is compared with.

    Args:
        where: backend, mode, or case.
        value: with its quartiles; None where nothing lies in the folder.
        text: as a person reads it.
        at_most: the bound, where it is not the goal's.
    """

    where: str
    value: Spread | None = None
    text: str = ""
    at_most: float | None = None


class Files:
    """The results in `folder`, of some backends."""

    def __init__(self, folder: Path, backends: Sequence[str] = BACKENDS) -> None:
        self.folder, self.backends = folder, backends

    @cached_property
    def _groups(self) -> dict[tuple[str, str], list[Figure]]:
        found = [json.loads(path.read_text()) for path in sorted(self.folder.glob("results-*.json"))]
        return {(result["group"], result["backend"]): json_files.figures_of(result) for result in found}

    def figures(self, group: str, backend: str) -> list[Figure]:
        """Return a group's figures."""
        return self._groups.get((group, backend), [])

    def study(self, name: str, backend: str, part: str = "") -> dict[str, Any] | None:
        """Return a study's file."""
        path = self.folder / BY_NAME[name].file.format(backend=backend, part=part)
        return json.loads(path.read_text()) if path.exists() else None


# Finds what a goal is compared with.
Find = Callable[[Files], Iterator[Measured]]
Key = tuple[str, str, str]


def figure(group: str, part: str, case: str, read: Callable[[Figure], Measured] | None = None, backends: Sequence[str] = BACKENDS) -> Find:
    """Find the figures of one part whose case begins so, or is `case` where one is; by their ratios, or by what `read` takes from them."""

    def find(files: Files) -> Iterator[Measured]:
        for backend in [b for b in files.backends if b in backends]:
            same = [f for f in files.figures(group, backend) if f.part == part and f.case.startswith(case)]
            same = [f for f in same if f.case == case] or same
            if not same:
                yield Measured(backend)
            for f in same:
                found = (read or ratio)(f)
                yield Measured(f"{backend}, {f.mode}", found.value, found.text, found.at_most)

    return find


def ratio(f: Figure) -> Measured:
    """Return a figure's ratio; what is added in percent; where the part is within the noise, the ratio of the whole steps, to be near 1."""
    if f.ratio is None:
        without = f.detail.get("step without", 0.0)
        whole = (without + max(f.ours, 0.0)) / (without + max(f.keras, 0.0))
        found = number(whole, f"within the noise, the whole step {whole:.2f}")
        return replace(found, at_most=1 + STEP_NOISE)
    if f.percent:
        low, median, high = (100 * (value - 1) for value in (f.ratio.low, f.ratio.median, f.ratio.high))
        return Measured("", Spread(median, low, high), str(f))
    return Measured("", f.ratio, str(f))


def number(value: float, text: str) -> Measured:
    """Return one number without a spread."""
    return Measured("", Spread(value, value, value), text)


def more(f: Figure) -> Measured:
    """Return by how much ours takes longer."""
    return number(f.ours - f.keras, f"{f.ours - f.keras:+.3f} {f.unit}")


def ours(f: Figure) -> Measured:
    """Return ours."""
    return number(f.ours, f"{f.ours:.1f} {f.unit}")


def every_other(groups: Collection[str], named: Collection[Key]) -> Find:
    """Find the ratios of all figures of the groups but those of the parts and cases that are named."""

    def find(files: Files) -> Iterator[Measured]:
        for group in groups:
            for backend in files.backends:
                for f in files.figures(group, backend):
                    if (group, f.part, f.case) not in named:
                        found = ratio(f)
                        yield Measured(f"{f.part}, {f.case}: {backend}, {f.mode}", found.value, found.text, found.at_most)

    return find


def study(name: str, read: Callable[[dict[str, Any]], Measured], backends: Sequence[str] = BACKENDS, part: str = "") -> Find:
    """Find what `read` takes from a study's file."""

    def find(files: Files) -> Iterator[Measured]:
        for backend in [b for b in files.backends if b in backends]:
            kept = files.study(name, backend, part)
            found = Measured("") if kept is None else read(kept)
            yield Measured(" ".join(filter(None, [backend, part.replace("_", " ")])), found.value, found.text)

    return find
