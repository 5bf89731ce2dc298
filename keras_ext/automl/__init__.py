"""The search behind `keras-ext search`: from data of one's own to a saved model, a leaderboard and a report.

>>> from keras_ext.automl import Settings
>>> Settings(trials=5).tuner
'tpe'
"""

from keras_ext.automl.run import SearchResult, run
from keras_ext.automl.settings import Settings

__all__ = ["SearchResult", "Settings", "run"]
