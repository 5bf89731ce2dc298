"""A number of batches that changes from epoch to epoch."""

import operator
from collections.abc import Callable
from typing import Any


def _reflected(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: operation(_plain(other), int(self))


def _forward(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: operation(int(self), _plain(other))


def _plain(number: Any) -> Any:
    return int(number) if isinstance(number, EpochSteps) else number


class EpochSteps:
    """The number of batches of the epoch that `data` is in: a whole number that is another one in another epoch.

    A copy of it, pickled or not, is the number of that moment.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __index__(self) -> int:
        return len(self.data)

    __int__ = __index__

    def __float__(self) -> float:
        return float(len(self.data))

    def __repr__(self) -> str:
        return str(len(self.data))

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (len(self.data),)

    __hash__ = None  # type: ignore[assignment]
    __eq__, __ne__ = _forward(operator.eq), _forward(operator.ne)  # type: ignore[assignment]
    __lt__, __le__, __gt__, __ge__ = _forward(operator.lt), _forward(operator.le), _forward(operator.gt), _forward(operator.ge)
    __add__, __radd__ = _forward(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _forward(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _forward(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _forward(operator.truediv), _reflected(operator.truediv)
    __floordiv__, __rfloordiv__ = _forward(operator.floordiv), _reflected(operator.floordiv)
    __mod__, __rmod__ = _forward(operator.mod), _reflected(operator.mod)

    def __bool__(self) -> bool:
        return len(self.data) > 0
