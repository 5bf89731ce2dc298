"""Which hyperparameters to change first after a critical finding, by their names."""

import re
from collections.abc import Iterable

# Kinds of hyperparameters, by what their names have in them.
_KINDS = {
    "activation": re.compile("activation"),
    "initializer": re.compile("init"),
    "normalization": re.compile("^(?!.*clip).*norm"),
    "depth": re.compile("layers|depth|blocks|stages"),
    "learning rate": re.compile(r"learning_?rate|(^|[^a-z])lr([^a-z]|$)"),
    "clipping": re.compile("clip"),
    "momentum": re.compile("momentum"),
    "batch size": re.compile("batch_?size"),
}
_WRONG_SLOPES = (("activation", 0), ("initializer", 0), ("normalization", 0), ("depth", -1))
_TOO_LARGE_STEPS = (("learning rate", -1), ("clipping", -1), ("initializer", 0))
# What helps against a symptom, with the direction in which a number goes; without the order of the table, as one is picked at random.
REMEDIES: dict[str, tuple[tuple[str, int], ...]] = {
    "saturated": (*_WRONG_SLOPES[:3], ("learning rate", -1)),
    "dead_relu": (("activation", 0), ("initializer", 0), ("normalization", 0), ("learning rate", -1)),
    "vanishing_gradient": _WRONG_SLOPES,
    "zero_gradient": _WRONG_SLOPES,
    "constant_output": (*_WRONG_SLOPES, ("learning rate", -1)),
    "poor_initialization": (("initializer", 0), ("activation", 0), ("normalization", 0)),
    "exploding_gradient": _TOO_LARGE_STEPS,
    "exploding_activation": (*_TOO_LARGE_STEPS, ("normalization", 0)),
    "exploding_weight": _TOO_LARGE_STEPS,
    "non_finite": _TOO_LARGE_STEPS,
    "oscillating_loss": (("learning rate", -1), ("momentum", -1), ("batch size", 1)),
    "unchanged_weights": (("learning rate", 1),),
    "stalled_loss": (("activation", 0), ("initializer", 0), ("learning rate", 0)),
}


def remedies(symptoms: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """Return which of the hyperparameters `names` help against `symptoms`, each with the direction in which it should change, or 0.

    >>> remedies(["non_finite"], ["layers", "learning_rate_adam", "initializer_relu", "clipping", "clipping_threshold", "dropout"])
    {'learning_rate_adam': -1, 'initializer_relu': 0, 'clipping': -1, 'clipping_threshold': -1}
    >>> remedies(["vanishing_gradient"], ["clipnorm", "num_layers", "activation"])
    {'num_layers': -1, 'activation': 0}
    """
    symptoms = [s for s in symptoms if s in REMEDIES]
    found = {}
    for name in names:
        directions = {way for s in symptoms for kind, way in REMEDIES[s] if _KINDS[kind].search(name.lower())}
        if directions:
            found[name] = directions.pop() if len(directions) == 1 else 0
    return found


def can_make_sick(name: str) -> bool:
    """Return whether a hyperparameter of this name is one that helps against some symptom, or the optimizer, whose rates differ.

    >>> can_make_sick("initializer_relu"), can_make_sick("dropout")
    (True, False)
    """
    return "optimizer" in name.lower() or any(kind.search(name.lower()) for kind in _KINDS.values())
