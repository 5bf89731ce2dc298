"""How many samples a snapshot can afford."""

import math
from typing import Any

from keras import tree

from keras_ext.callbacks.monitor.probe.recording import watched_layers

# Numbers that the watched layers put out for a sample up to which a snapshot takes all samples; a snapshot with more would cost many steps.
_MOST = 2**15
# Fewer samples say too little. Layers that put out so much have many places beside the samples.
_LEAST = 32


def affordable(model: Any, data: Any) -> Any:
    """Return `data` for a snapshot of `model`: as it is, or, for a model of large feature maps, the first of its samples.

    A ResNet50 of pictures of 224 x 224 puts out ten million numbers a sample: a snapshot of 256 of them would take as long as four steps
    of 64.

    Args:
        model: a built model. Of one whose layers do not know their shapes nothing is left out.
        data: a structure of arrays, whose first axis are the samples.
    """
    numbers = sum(_numbers(layer) for layer, kind in watched_layers(model) if kind != "shape")
    return tree.map_structure(lambda a: None if a is None else a[: _samples(len(a), numbers)], data)


def _samples(given: int, numbers: int) -> int:
    return max(min(given, _LEAST), given * _MOST // max(numbers, _MOST))


def _numbers(layer: Any) -> int:
    try:
        shapes = [output.shape[1:] for output in tree.flatten(layer.output)]
    except (AttributeError, ValueError):  # of a subclassed model, or called several times
        return 0
    return sum(math.prod(size or 1 for size in shape) for shape in shapes)
