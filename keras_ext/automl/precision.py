"""The dtype policy of new layers."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def precision(kind: str | None) -> Iterator[None]:
    """Let new layers compute in this type while the block runs; None leaves the user's own policy."""
    kept = keras.config.dtype_policy()
    if kind is not None:
        keras.config.set_dtype_policy(f"mixed_{kind}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(kept)
