"""How a part's time grows with its work: each part with its work 1, 10 and 100 times, ours and Keras's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from benchmarks.groups import clipping, initializers, layers, monitor, optimizers
from benchmarks.measuring import measure
from benchmarks.measuring.compiled import modes
from benchmarks.measuring.figure import Case, Figure

WORK = (1, 10, 100)
# A slope needs no more: what is wanted is the course over a hundredfold, not a percent.
SECONDS, LEAST = 1.5, 5


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each part with each amount of work, in the mode that Keras chooses."""
    if not effort.small:
        effort = replace(effort, seconds=SECONDS, least=LEAST)
    mode, jit = next(iter(modes().items()))
    for part, figure_of in _parts(mode, jit, effort).items():
        for work in WORK:
            yield Case(f"{part}, work x {work}", partial(_measure, part, figure_of, work))


def _measure(part: str, figure_of: Callable[[int], Figure], work: int) -> Figure:
    return replace(figure_of(work), part=part, work=work)


def _parts(mode: str, jit: bool, effort: measure.Effort) -> dict[str, Callable[[int], Figure]]:
    """Return for each part what measures it; the work is the numbers that it goes over, and with the monitor the layers."""
    samples, rows, layers_least = (1, 1, 1) if effort.small else (32, 128, 2)

    def layer(part: str, work: int) -> Figure:
        return layers.own_cost(part, layers.Setting((samples * work, 8, 8, 8)), mode, jit, effort)

    def update(part: str, pair: tuple[optimizers.Make, optimizers.Make], work: int) -> Figure:
        return optimizers.compare(part, *pair, optimizers.Weights(4, (rows * work, 128)), mode, jit, effort)

    def draw(name: str, work: int) -> Figure:
        return initializers.compare(initializers.named(name, (2 * rows * work, 64)), effort)

    # With Adam's own time: what clipping adds to a small update is within the noise.
    clipped = {"Adam, clipped by global_norm": clipping.PARTS["global_norm"]}
    return {
        **{part: partial(layer, part) for part in layers.PARTS},
        **{part: partial(update, part, pair) for part, pair in {**optimizers.PARTS, **clipped}.items()},
        **{name: partial(draw, name) for name in ("HeNormal", "Orthogonal")},
        "SaturationMonitor, a look": lambda work: monitor.look(layers_least * work, effort),
    }
