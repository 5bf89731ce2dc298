"""The private names of Keras that the package leans on still mean what they meant."""

import json
from pathlib import Path

import keras
import keras_tuner
from keras import ops

from keras_ext._backend import keras_private


def test_flatten_layers_finds_layers_inside_layers_parents_first():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
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


def test_oracle_tuner_and_trial_save_through_the_function_that_is_replaced(tmp_path):
    paths = []

    def build(hp):
        hp.Choice("a", [1, 2])
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    tuner = keras_tuner.RandomSearch(build, "loss", max_trials=1, directory=tmp_path, project_name="p")
    with keras_private.keras_tuner_saves_json_with(lambda path, content: paths.append(Path(path).name) or json.dumps(content)):
        tuner.search(ops.ones((4, 1)), ops.ones((4, 1)), verbose=0)
    assert set(paths) == {"oracle.json", "tuner0.json", "trial.json", "build_config.json"}
    assert not list(tmp_path.rglob("oracle.json"))
    tuner.save()
    assert list(tmp_path.rglob("oracle.json"))
