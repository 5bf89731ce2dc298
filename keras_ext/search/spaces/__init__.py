"""Search spaces: KerasTuner HyperModels, each a kind of network whose parts are chosen with `search.choices`.

>>> from keras_ext.search.spaces import CNN, LSTM, MLP, ImageNetworks, ResidualMLP, ResNet
>>> [space.name for space in (MLP((4,)), ResidualMLP((4,)), CNN((8, 8)), ResNet((8, 8, 3)), ImageNetworks((8, 8)), LSTM((20, 3)))]
['mlp', 'residual_mlp', 'cnn', 'resnet', 'images', 'lstm']
"""

from keras_ext.search.spaces.cnn import CNN
from keras_ext.search.spaces.images import ImageNetworks
from keras_ext.search.spaces.lstm import LSTM
from keras_ext.search.spaces.mlp import MLP
from keras_ext.search.spaces.residual_mlp import ResidualMLP
from keras_ext.search.spaces.resnet import ResNet
from keras_ext.search.spaces.space import Space

__all__ = ["CNN", "LSTM", "MLP", "ImageNetworks", "ResNet", "ResidualMLP", "Space"]
