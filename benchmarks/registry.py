"""Every benchmark, as `registry.toml` lists them: groups compare parts with Keras's, studies have a table of their own."""

import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """One word of `--only`, with the fields that `registry.toml` explains."""

    name: str
    minutes: int
    about: str
    settings: dict[str, Any] | None = None
    quick: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    once_on: str | None = None

    @property
    def is_study(self) -> bool:
        """Whether it is a study."""
        return self.settings is not None

    @property
    def module(self) -> Any:
        """A group's module has `comparisons(small)`; a study's has `measure(**settings)` and `table(kept)`."""
        return import_module(f"benchmarks.{'studies' if self.is_study else 'groups'}.{self.source or self.name}")


_ROWS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
BENCHMARKS = {name: Benchmark(name, **row) for name, row in _ROWS.items()}
GROUPS = [name for name, benchmark in BENCHMARKS.items() if not benchmark.is_study]
