"""The data that is always there."""

from keras_ext.tables.data.table import Table, make_table


def load_digits() -> Table:
    """Return scikit-learn's bundled digits: 1,797 images of 8 x 8 pixels, values 0 to 16, ten classes.

    >>> load_digits().x.shape
    (1797, 64)
    """
    import sklearn.datasets  # takes a second

    x, y = sklearn.datasets.load_digits(return_X_y=True)
    return make_table(x, y, "digits")
