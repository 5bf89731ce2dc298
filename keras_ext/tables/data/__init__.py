"""Data to search on: arrays, the bundled digits, NPZ files, files of tables, folders of images.

Whatever cannot be used ends in one line that names the fix.
"""

from keras_ext.tables.data.digits import load_digits
from keras_ext.tables.data.images import load_images
from keras_ext.tables.data.npz import load_npz
from keras_ext.tables.data.table import Split, Table, make_table
from keras_ext.tables.data.table_file import load_csv, load_frame

__all__ = ["Split", "Table", "load_csv", "load_digits", "load_frame", "load_images", "load_npz", "make_table"]
