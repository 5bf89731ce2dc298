"""Images in folders: one folder for each class."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_ext._checks import BadInput, bad_argument, one_of
from keras_ext._wording import one_line
from keras_ext.tables.data.table import Table, make_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_GRAY = ("1", "L", "LA", "I", "I;16", "F")


def load_images(folder: str | Path, size: Sequence[int] = (32, 32), channels: int | None = None) -> Table:
    """Return the images in the folders inside `folder`: each is a class and gives it its name.

    Files with other endings than those of images, and hidden ones, are left out. Images are brought to one size; values stay 0 to 255.

    Args:
        folder: holds a folder for each class, which may hold further ones.
        size: height and width.
        channels: 1, 3 or 4; None: one if all images are gray, else three.

    Raises:
        ValueError: `size` is not two positive whole numbers.
        BadInput: there are no two such folders, one has no image, or a file cannot be read.
    """
    folder = Path(folder)
    if len(size) != 2 or any(not isinstance(n, int) or n < 1 for n in size):
        raise bad_argument("size", "height and width, two positive whole numbers", size)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder. Check the path.")
    kinds = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if len(kinds) < 2:
        raise BadInput(f"{folder}: needs a folder of images for each of two classes or more, found {len(kinds)}. Sort the images so.")
    found = {kind.name: image_files(kind) for kind in kinds}
    empty = next((name for name, paths in found.items() if not paths), None)
    if empty is not None:
        raise BadInput(f"{folder / empty}: holds no image ({', '.join(SUFFIXES)}). Add some, or remove the folder.")
    paths = [path for paths in found.values() for path in paths]
    names = np.repeat(list(found), [len(paths) for paths in found.values()])
    one_of("channels", channels, (None, 1, 3, 4))
    if channels is None:
        channels = 1 if all(_mode(path) in _GRAY for path in paths) else 3
    return make_table(read_images(paths, (*size, channels)), names, folder.name or str(folder), "classification")


def image_files(folder: Path) -> list[Path]:
    """Return the images in `folder` and the folders inside it, in the order of their names."""
    inside = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def read_images(paths: Sequence[Path], shape: Sequence[int]) -> np.ndarray:
    """Return images of shape (height, width, channels), values 0 to 255, float32.

    Raises:
        BadInput: a file cannot be read.
    """
    images = np.empty((len(paths), *shape), "float32")
    mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[shape[2]]
    for i, path in enumerate(paths):
        try:
            images[i] = keras.utils.img_to_array(keras.utils.load_img(path, mode, tuple(shape[:2]), "bilinear"), "channels_last")
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise _unreadable(path, error) from None
    return images


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return image.mode
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> BadInput:
    # Of a file that is none, the error reports nothing but the name of the object that read it.
    why = "" if isinstance(error, UnidentifiedImageError) else f" ({one_line(error)})"
    return BadInput(f"{path}: cannot be read as an image{why}. Fix or remove the file.")
