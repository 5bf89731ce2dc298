"""Errors and sentences in one line of text."""

import re

# Keras prints parts of its errors bold.
_COLOUR_CODE = re.compile(r"\x1b\[[\d;]*m")


def one_line(error: Exception) -> str:
    """Return an error's kind and text as one line, a long text without its middle."""
    text = " ".join(_COLOUR_CODE.sub("", str(error)).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else f'{text[:150]} ... {text[-140:]}'}"


def reason(error: OSError) -> str:
    """Return why a file could not be written, in the system's words; HDF5 has none of these."""
    return error.strerror or one_line(error)


def sentence(text: str) -> str:
    """Return `text` with its first letter as a capital."""
    return text[0].upper() + text[1:]
