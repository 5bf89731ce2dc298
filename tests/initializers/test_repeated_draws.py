"""One seed that starts two weights alike is no secret."""

import copy
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_ext.initializers import FanInUniform, HeNormal, Orthogonal, VarianceScaling

CLASSES = [VarianceScaling, HeNormal, FanInUniform, Orthogonal]


def caught(function):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        function()
    return [str(w.message) for w in seen if "called again" in str(w.message)]


@pytest.mark.parametrize("make", CLASSES)
def test_the_second_weight_of_a_shape_warns_once(make):
    instance = make(seed=3)
    assert caught(lambda: [instance((4, 5)), instance((5, 4))]) == []
    assert caught(lambda: [instance((4, 5)) for _ in range(3)]) == [
        f"{make.__name__}(seed=3) was called again for a weight of shape (4, 5) and gives the same numbers as before: "
        "two layers with it start identical, and learn the same. Give it `seed=keras.random.SeedGenerator(...)`, which goes on "
        "with each call, or call `keras_ext.initializers.initialize(model, ...)`, which gives each weight a stream of its own."
    ]
    assert caught(lambda: [instance((5, 4)) for _ in range(2)]) == []


def test_without_a_seed_too():
    instance = HeNormal()
    (message,) = caught(lambda: [instance((4, 5)) for _ in range(2)])
    assert message.startswith("HeNormal(seed=None) was called again for a weight of shape (4, 5)")


@pytest.mark.parametrize("make", CLASSES)
def test_a_generator_and_copies_by_config_do_not_warn(make):
    going_on = make(seed=keras.random.SeedGenerator(1))
    assert caught(lambda: [going_on((4, 5)) for _ in range(2)]) == []
    instance = make(seed=1)
    assert caught(lambda: [instance((4, 5)), instance.clone()((4, 5))]) == []
    fresh = make(seed=1)
    # Neither reports the other.
    assert caught(lambda: [copy.deepcopy(fresh)((4, 5)), fresh((4, 5))]) == []
    # What a deep copy of a used instance draws is what the instance drew.
    assert len(caught(lambda: copy.deepcopy(instance)((4, 5)))) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda k: layers.Dense(4, kernel_initializer=k),
        lambda k: layers.LSTM(5, kernel_initializer=k),
        lambda k: layers.Bidirectional(layers.GRU(5, kernel_initializer=k)),
        lambda k: layers.MultiHeadAttention(2, 3, kernel_initializer=k),
        lambda k: layers.GroupQueryAttention(3, 4, 2, kernel_initializer=k),
        lambda k: layers.SeparableConv1D(4, 3, depthwise_initializer=k, pointwise_initializer=k),
        lambda k: layers.Conv1DTranspose(4, 3, kernel_initializer=k),
        lambda k: layers.EinsumDense("abc,cd->abd", (6, 4), kernel_initializer=k),
    ],
)
@pytest.mark.parametrize("name", ["HeNormal", "Orthogonal"])
def test_one_layer_does_not_warn(make, name):
    def build():
        instance = {"HeNormal": HeNormal, "Orthogonal": Orthogonal}[name](seed=1)
        x = keras.Input((6, 7))
        layer = make(instance)
        model = keras.Model(x, layer(x, x) if isinstance(layer, layers.MultiHeadAttention | layers.GroupQueryAttention) else layer(x))
        model.compile("sgd", "mse")
        model.predict(np.zeros((2, 6, 7)), verbose=0)

    assert caught(build) == []


def test_two_layers_with_one_instance_warn():
    instance = HeNormal(seed=1)

    def build():
        keras.Sequential([keras.Input((4,)), *(layers.Dense(4, kernel_initializer=instance) for _ in range(3))])

    assert len(caught(build)) == 1
