"""Eight networks for the digits, each of which lets one of its layers be broken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

# Returns the activation of the hidden layer of that name, which is the given one unless the layer is broken.
Activation = Callable[[str, str], str]


@dataclass(frozen=True)
class Architecture:
    """A network as users write it; its hidden layers with kernels are h1, h2, ..., an activation of its own behind h1 is h1_act."""

    build: Callable[[Activation], Any]
    optimizer: Callable[[], Any]
    data: str = "scaled"
    batch: int = 32


def _adam(rate: float = 1e-3) -> Any:
    return keras.optimizers.Adam(rate)


def _momentum(rate: float = 0.05) -> Any:
    return keras.optimizers.SGD(rate, momentum=0.9)


def dense_stack(activation: Activation, depth: int, kind: str, initializer: str) -> Any:
    names = [f"h{i}" for i in range(1, depth + 1)]
    net = [keras.layers.Dense(64, activation(name, kind), kernel_initializer=initializer, name=name) for name in names]
    return keras.Sequential([keras.Input((64,)), *net, _end()])


def _mlp(activation: Activation) -> Any:
    return dense_stack(activation, 4, "relu", "glorot_uniform")


def _deep_mlp(activation: Activation) -> Any:
    return dense_stack(activation, 10, "relu", "he_normal")


def _tanh(activation: Activation) -> Any:
    return dense_stack(activation, 5, "tanh", "glorot_uniform")


def _lenet(activation: Activation) -> Any:
    net = []
    for name, filters in (("h1", 8), ("h2", 16)):
        conv = keras.layers.Conv2D(filters, 3, padding="same", activation=activation(name, "relu"), name=name)
        net += [conv, keras.layers.AveragePooling2D(2)]
    dense = [keras.layers.Dense(units, activation(name, "relu"), name=name) for name, units in (("h3", 64), ("h4", 32))]
    return keras.Sequential([keras.Input((64,)), keras.layers.Reshape((8, 8, 1)), *net, keras.layers.Flatten(), *dense, _end()])


def _cnn(activation: Activation) -> Any:
    net = []
    for names, filters in ((("h1", "h2"), 8), (("h3", "h4"), 16)):
        for name in names:
            net.append(keras.layers.Conv2D(filters, 3, padding="same", activation=activation(name, "relu"), name=name))
        net.append(keras.layers.MaxPooling2D())
    dense = keras.layers.Dense(64, activation("h5", "relu"), name="h5")
    return keras.Sequential([keras.Input((64,)), keras.layers.Reshape((8, 8, 1)), *net, keras.layers.Flatten(), dense, _end()])


def _normalized(activation: Activation) -> Any:
    net = []
    for name in ("h1", "h2", "h3", "h4"):
        act = keras.layers.Activation(activation(name, "relu"), name=f"{name}_act")
        net += [keras.layers.Dense(64, name=name), keras.layers.BatchNormalization(name=f"{name}_normalization"), act]
    return keras.Sequential([keras.Input((64,)), *net, _end()])


def _residual(activation: Activation) -> Any:
    inputs = keras.Input((64,))
    x = keras.layers.Dense(64, activation("h1", "relu"), name="h1")(inputs)
    for first, second in (("h2", "h3"), ("h4", "h5"), ("h6", "h7")):
        y = keras.layers.Dense(64, activation(first, "relu"), name=first)(x)
        x = keras.layers.Add()([x, keras.layers.Dense(64, name=second)(y)])
    return keras.Model(inputs, _end()(x))


def _lstm(activation: Activation) -> Any:
    net = [keras.layers.LSTM(48, name="h1"), *(keras.layers.Dense(48, activation(name, "relu"), name=name) for name in ("h2", "h3"))]
    return keras.Sequential([keras.Input((64,)), keras.layers.Reshape((8, 8)), *net, _end()])


def _end() -> Any:
    return keras.layers.Dense(10, "softmax", name="out")


ARCHITECTURES = {
    "relu MLP, 4": Architecture(_mlp, _adam),
    "relu MLP, 10": Architecture(_deep_mlp, _adam, batch=16),
    "tanh MLP, 5": Architecture(_tanh, _momentum, "standard"),
    "LeNet, 4": Architecture(_lenet, _momentum, "standard", batch=16),
    "CNN, 5": Architecture(_cnn, lambda: _adam(2e-3), batch=16),
    "BatchNorm MLP, 4": Architecture(_normalized, _momentum),
    "residual MLP, 7": Architecture(_residual, lambda: _momentum(0.02), "standard"),
    "LSTM, 3": Architecture(_lstm, lambda: _adam(3e-3), "standard", batch=16),
}
