"""The data that is always there."""

import sklearn.datasets

from keras_ext.search.data.table import Table, make_table


def load_digits() -> Table:
    """Return scikit-learn's bundled digits: 1,797 images of 8 x 8 pixels, values 0 to 16, ten classes.

    >>> load_digits().x.shape
    (1797, 64)
    """
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    return make_table(x, y, "digits")
