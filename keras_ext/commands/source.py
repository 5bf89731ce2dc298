"""Where a command's data comes from: what is asked for with `--data` and the options that go with it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_ext import tables
from keras_ext._checks import BadInput
from keras_ext.tables.data.read_dataframe import is_table

_TASKS = ("auto", "classification", "regression")


@dataclass(frozen=True)
class Source:
    """Data of a file or folder, or the digits.

    Args:
        data_path: the file or folder; None: the digits.
        target: what to predict, in a file.
        task: `"classification"`, `"regression"` or `"auto"`; None counts as the last.
        categories: names of columns, with commas.
        columns: names of the columns that are inputs, with commas; None: all that say something of new samples.
        image_size: height and width, as `32x32`, or one number for both.
    """

    data_path: str | None = None
    target: str | None = None
    task: str | None = None
    categories: str | None = None
    image_size: str | None = None
    columns: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, stored: dict[str, Any], **given: str | None) -> "Source":
        """Return what is given, and what was `stored` for the rest."""
        return cls(**{name: stored.get(name) if given.get(name) is None else given[name] for name in asdict(cls())})

    def table(self, features: Any = None, shape: Sequence[int] | None = None) -> tables.Table:
        """Read the data; for a model that exists, as its TableFeatures or the shape of its images asks.

        Raises:
            BadInput: it cannot be used, or an option does not go with it.
        """
        task = self.task or "auto"
        if task not in _TASKS:
            raise BadInput(f"--task must be auto, classification or regression, got {task}.")
        if self.data_path is None:
            if self.target is not None or task == "regression":
                raise BadInput("--target and --task go with --data. Name the file, or leave them out to search on the digits.")
            self._refuse("categories", "columns", "group", "image_size")
            return tables.load_digits()
        path = Path(self.data_path)
        if path.is_dir():
            self._refuse("categories", "columns", "group", "target")
            if task == "regression":
                raise BadInput(f"{path}: is a folder of images, whose folders are classes. Leave --task regression out.")
            size, channels = (shape[:2], shape[2]) if shape else (self._size(), None)
            return tables.load_images(path, size, channels)
        if path.suffix.lower() == ".npz":
            self._refuse("categories", "columns", "group", "image_size")
            return tables.load_npz(path, self.target, task)
        if is_table(path):
            self._refuse("image_size")
            categories, columns = _names(self.categories), _names(self.columns)
            return tables.load_csv(path, self.target, task, categories, features, columns, self.group)
        raise BadInput(f"{path}: is neither .npz nor .csv, nor a folder of images. Save the data as one of them.")

    def _size(self) -> tuple[int, int]:
        sides = (self.image_size or "32").lower().split("x")
        if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) > 0 for side in sides):
            raise BadInput(f"--image-size must be height x width, such as 32x48, or one number, got {self.image_size}.")
        return int(sides[0]), int(sides[-1])

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                goes = {"image_size": "a folder of images", "target": "a CSV or NPZ file"}.get(name, "a CSV file")
                raise BadInput(f"{option} goes with {goes}. Leave it out.")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []
