"""The file `search.json`: it keeps the settings of a search in its folder, so that the search goes on as it began."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from keras_ext._atomic import write_json
from keras_ext._checks import BadInput
from keras_ext.automl.settings import Settings
from keras_ext.automl.tuners import PROJECT
from keras_ext.tables.data import Table

SEARCH_FILE = "search.json"
# What a search may go on with otherwise than it began.
_MAY_CHANGE = ("trials", "refit", "baseline")
# See `settings.complete`.
_DECIDED = ("epochs", "patience", "pruner", "trials_per_structure")


def stored_settings(output: str | Path) -> dict[str, Any]:
    """Return what `search.json` in `output` says.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    path = Path(output) / SEARCH_FILE
    if not path.is_file():
        raise BadInput(f"{output}: holds no search to resume. Leave `resume` out to start one there.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise BadInput(f"{path}: cannot be read. Start again in another folder.") from None


def settings_of(stored: dict[str, Any]) -> Settings:
    """Return the settings that `search.json` says; the default where it has none."""
    return Settings(**{field.name: stored[field.name] for field in fields(Settings) if field.name in stored})


def claim(output: Path, settings: Settings, table: Table, resume: bool, source: dict[str, Any]) -> None:
    """Make the folder this search's own, or check that it is; nothing that is there is touched."""
    # As JSON keeps them: a tuple comes back as a list.
    wanted = {**asdict(settings), "batch_sizes": list(settings.batch_sizes), "data": table.name, "fingerprint": table.fingerprint}
    stored, defaults = stored_settings(output) if resume else {}, asdict(Settings())
    if resume:
        for name, value in wanted.items():
            if name == "fingerprint" and stored.get(name) != value:
                raise BadInput(
                    f"{output}: holds a search on other data, or with another target or group. Give what it began with, or another "
                    "`output`."
                )
            began_with = stored.get(name, defaults.get(name))
            # Where nothing is written of it, the data and the other settings decided, which are the same.
            if name not in _MAY_CHANGE and began_with != value and not (name in _DECIDED and began_with is None):
                raise BadInput(
                    f"{output}: holds a search with {name} {began_with}, got {value}. Give what it began with, or another `output`."
                )
        # Hyperband sets the number itself.
        there = len(list((output / PROJECT).glob("trial_*/trial.json"))) if settings.tuner != "hyperband" else 0
        if settings.trials < there:
            raise BadInput(
                f"{output}: holds {there} trials already, got `trials` {settings.trials}. Give at least {there}: with {there} no further "
                "one is trained."
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not output.is_dir():
            raise BadInput(f"{output}: is a file, not a folder. Give another `output`.")
        if (output / SEARCH_FILE).is_file():
            raise BadInput(f"{output}: holds a search. Add `resume=True` to go on with it, or give another `output`.")
        raise BadInput(f"{output}: holds other files. Give another `output`.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / SEARCH_FILE, {**stored, **source, **wanted})
    except OSError as error:
        raise BadInput(f"{output}: cannot be written ({error.strerror}). Give another `output`.") from None
