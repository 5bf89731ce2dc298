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
        raise BadInput(_as_options(str(error), names)) from None


@contextlib.contextmanager
def mistakes_named_as_options(names: Iterable[str]) -> Iterator[None]:
    """Let the user's mistakes speak of options; other errors, as those of a training, stay as they are."""
    try:
        yield
    except BadInput as error:
        raise BadInput(_as_options(str(error), names)) from error.__cause__


def _as_options(text: str, names: Iterable[str]) -> str:
    for name in names:
        option = f"--{name.replace('_', '-')}"
        # That there is more than the option's own name is for those who call Python.
        for said in (f"{option} ({name}=True in Python)", f"`{name}=True`", f"`{name}`"):
            text = text.replace(said, option)
    return text
