"""Folders of images, one for each class."""

import numpy as np
import pytest
from PIL import Image

from keras_ext._checks import BadInput
from keras_ext.tables import load_images

pytestmark = pytest.mark.backend_free


def save(path, value, mode="L", size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def folder_of(root, mode="L"):
    """Ten even images, in two classes, beside what is none."""
    for i in range(5):
        save(root / f"cats/{i}.png", 10 + i if mode == "L" else (10 + i, 0, 1), mode)
        save(root / f"dogs/more/{i}.bmp", 100 + i if mode == "L" else (100 + i, 0, 1), mode)
    (root / "notes.txt").write_text("of the images")
    (root / "cats/.hidden.png").write_text("no image")
    (root / ".trash").mkdir()
    return root


def test_each_folder_is_a_class(tmp_path):
    table = load_images(folder_of(tmp_path / "animals"), (4, 6))
    assert (table.name, table.classes, table.task) == ("animals", ("cats", "dogs"), "classification")
    assert table.x.shape == (10, 4, 6, 1)
    assert table.x.dtype == "float32"
    assert table.x[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 100, 101, 102, 103, 104]
    assert table.y.tolist() == [0] * 5 + [1] * 5
    assert table.inputs == "24 inputs (4 x 6 x 1)"


def test_images_are_brought_to_one_size_and_have_three_channels_if_one_has_colours(tmp_path):
    folder_of(tmp_path)
    save(tmp_path / "dogs/red.png", (200, 0, 0), "RGB", (50, 3))
    table = load_images(tmp_path, (8, 8))
    assert table.x.shape == (11, 8, 8, 3)
    red = table.x[-1]
    np.testing.assert_array_equal(red, np.broadcast_to([200, 0, 0], (8, 8, 3)))
    np.testing.assert_array_equal(table.x[0], np.full((8, 8, 3), 10))
    assert load_images(tmp_path, (8, 8), channels=1).x.shape == (11, 8, 8, 1)


def test_what_cannot_be_used_is_reported(tmp_path):
    with pytest.raises(BadInput, match=r"no such folder\. Check the path\."):
        load_images(tmp_path / "none")
    (tmp_path / "cats").mkdir()
    with pytest.raises(BadInput, match="needs a folder of images for each of two classes or more, found 1"):
        load_images(tmp_path)
    save(tmp_path / "dogs/1.png", 3)
    with pytest.raises(BadInput, match=r"cats: holds no image \(\.png, .*\)\. Add some, or remove the folder\."):
        load_images(tmp_path)
    (tmp_path / "cats/1.png").write_text("no image")
    with pytest.raises(BadInput, match=r"1\.png: cannot be read as an image\. Fix or remove the file\."):
        load_images(tmp_path)
    with pytest.raises(BadInput, match=r"1\.png: cannot be read as an image"):
        load_images(tmp_path, channels=1)
    with pytest.raises(ValueError, match="`size` must be height and width, two positive whole numbers"):
        load_images(tmp_path, (0, 4))


def test_images_have_one_three_or_four_channels(tmp_path):
    folder_of(tmp_path / "animals")
    with pytest.raises(ValueError, match="`channels` must be one of None, 1, 3, 4, got 2"):
        load_images(tmp_path / "animals", (4, 6), channels=2)
