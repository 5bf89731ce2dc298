"""Data to search on: arrays, the bundled digits, NPZ and CSV files, folders of images.

Whatever cannot be used ends in one line that names the mend.
"""

from keras_ext.search.data.csv_file import load_csv
from keras_ext.search.data.digits import load_digits
from keras_ext.search.data.images import load_images
from keras_ext.search.data.npz import load_npz
from keras_ext.search.data.table import Split, Table, make_table

__all__ = ["Split", "Table", "load_csv", "load_digits", "load_images", "load_npz", "make_table"]
