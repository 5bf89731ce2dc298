"""The powers of the work that times grow with."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measuring import measure
from benchmarks.measuring.figure import Figure


@dataclass(frozen=True)
class Exponent:
    """Those of ours and Keras's time, of one part in one mode; None where a time is within the noise."""

    part: str
    mode: str
    ours: float | None
    keras: float | None


def exponents(figures: Sequence[Figure]) -> list[Exponent]:
    """Return the exponents of the figures whose work is given."""
    found: dict[tuple[str, str], list[tuple[int, Figure]]] = {}
    for figure in figures:
        if figure.work is not None:
            found.setdefault((figure.part, figure.mode), []).append((figure.work, figure))
    return [
        Exponent(
            *key,
            ours=measure.exponent([work for work, _ in same], [f.ours for _, f in same]),
            keras=measure.exponent([work for work, _ in same], [f.keras for _, f in same]),
        )
        for key, same in found.items()
    ]
