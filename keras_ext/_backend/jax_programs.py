"""A cache on disk of the programs that JAX compiles in a search's trials."""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

# A small network's trial takes .3 MiB; a trial that finds more than this in the folder begins with a new one.
MOST_MIB = 512
_lock = threading.Lock()
# By process: a fork of this one must not remove what is not its own.
_folders: dict[int, Path] = {}


@contextlib.contextmanager
def kept_on_disk() -> Iterator[None]:
    """Keep what is compiled meanwhile on disk, and take it from there: JAX's persistent cache, in a folder of this process.

    A cache that is set already (`jax_compilation_cache_dir`), or is set meanwhile, stays, and so do caches that are off. Where several
    processes compile one program (`jax.distributed`), or no folder can be made, nothing is kept.
    """
    settings: Any = jax.config
    has_own = settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache
    folder = None if has_own or jax.process_count() > 1 else _folder()
    if folder is None:
        yield
        return
    # The least time: many small programs, each compiled in a tenth of a second, are what trials have in common.
    wanted = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set({name: value for name, value in before.items() if getattr(jax.config, name) == wanted[name]})


def _set(values: dict[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    # JAX asks for its settings when it first compiles, and not again.
    compilation_cache.reset_cache()


def _folder() -> Path | None:
    """Return a folder that nobody else may write into, as whoever does could let this process run anything; None where there is none."""
    process = os.getpid()
    # It is a cache only: whatever is wrong with the disk, the trial goes on.
    with _lock, contextlib.suppress(OSError):
        folder = _folders.get(process)
        if folder is not None and folder.is_dir() and sum(file.stat().st_size for file in folder.rglob("*")) > MOST_MIB * 2**20:
            shutil.rmtree(folder, ignore_errors=True)
        if folder is None or not folder.is_dir():
            folder = _folders[process] = Path(tempfile.mkdtemp(prefix="keras_ext_programs_"))
            atexit.register(_remove, process, folder)
        return folder
    return None


def _remove(process: int, folder: Path) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
