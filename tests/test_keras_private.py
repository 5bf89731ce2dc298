"""The private names of Keras that the package leans on still mean what they meant."""

import keras
from keras import ops

from keras_ext._backend import keras_private


def test_flatten_layers_finds_layers_inside_layers_parents_first():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(2, name="a"), keras.layers.Dense(2, name="b")]

        def call(self, x):
            return self.parts[1](self.parts[0](x))

    model = keras.Sequential([keras.Input((3,)), Block(), keras.layers.Dense(1, name="c")])
    names = [layer.name for layer in keras_private.flatten_layers(model)]
    assert {"block", "a", "b", "c"} <= set(names)
    assert names.index("block") < min(names.index("a"), names.index("b"))
    assert model.name not in names


def test_variable_index_is_the_place_in_the_build_list():
    variables = [keras.Variable([float(i)]) for i in range(3)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    assert [keras_private.variable_index(optimizer, v) for v in variables] == [0, 1, 2]


def test_a_variable_that_is_overwritten_by_its_gradient_says_so():
    v = keras.Variable(ops.ones((2,)))
    assert keras_private.overwrites_with_gradient(v) is False
    v.overwrite_with_gradient = True
    assert keras_private.overwrites_with_gradient(v) is True
