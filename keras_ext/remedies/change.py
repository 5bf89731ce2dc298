"""A change of a model or of its training, and the reason for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A change of a model or of its training.

    Args:
        remedy: its name in `keras_ext.remedies.table`.
        what: what is done, in a sentence.
        symptom: the symptom that it is for.
        reason: what was found.
        layers: the layers that it changes; none where it changes the training.

    Examples:
        >>> print(Change("thaw", 'Let "hidden" train.', "frozen", "No weight can change.", ("hidden",)))
        thaw: Let "hidden" train. For: No weight can change.
    """

    remedy: str
    what: str
    symptom: str
    reason: str
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.remedy}: {self.what} For: {self.reason}"
