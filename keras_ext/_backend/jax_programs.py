"""What JAX compiles in a search's trials, kept on disk: what is forgotten to save memory need not be compiled again."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

# A small network's trial takes .3; more than this in all, and the folder begins anew.
MOST_MIB = 512


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    # Of this process, and gone with it: who may write into it may let this process run anything.
    return tempfile.TemporaryDirectory(prefix="keras_ext_programs_")


@contextlib.contextmanager
def kept_on_disk() -> Iterator[None]:
    """Keep what is compiled meanwhile on disk, and take it from there: JAX's persistent cache, in a folder of this process.

    Where a cache is set already (`jax_compilation_cache_dir`), or caches are off, that stays.
    """
    if _setting("jax_compilation_cache_dir") or not _setting("jax_enable_compilation_cache"):
        yield
        return
    folder = Path(_folder().name)
    if sum(file.stat().st_size for file in folder.iterdir()) > MOST_MIB * 2**20:
        for file in folder.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    # The least time: many small programs, each compiled in a tenth of a second, are what trials have in common.
    wanted = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: _setting(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def _set(values: dict[str, object]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    # JAX asks for its settings when it first compiles, and not again.
    compilation_cache.reset_cache()
