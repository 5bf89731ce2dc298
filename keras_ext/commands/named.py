"""Errors about arguments, in the words of the command line."""

import contextlib
from collections.abc import Iterable, Iterator

from keras_ext._checks import BadInput


@contextlib.contextmanager
def named_as_options(names: Iterable[str]) -> Iterator[None]:
    """Let what is wrong with an argument of these names speak of the option that gave it."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for name in names:
            text = text.replace(f"`{name}`", f"--{name.replace('_', '-')}")
        raise BadInput(text) from None
