"""What Keras does to whole models, done to models with parts of ours: as with Keras's classes in the same places."""

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks import SaturationMonitor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int32")
OURS, THEIRS = (keras_ext.layers, keras_ext.optimizers), (keras.layers, keras.optimizers)


def network(parts):
    layers, optimizers = parts
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="hidden"),
            layers.BatchNormalization(),
            keras.layers.Activation("tanh"),
            layers.Dropout(0.0, seed=7),  # a seed of its own would shift those of the layers after it
            keras.layers.Dense(2, "softmax", name="out"),
        ]
    )
    model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(parts):
    model = network(parts)
    model.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    return model


def assert_alike(one, other, tolerance=2e-5):
    """Check that two models predict the same; one course of float32 steps is off by the rounding of the other's order of sums."""
    np.testing.assert_allclose(one.predict(X, verbose=0), other.predict(X, verbose=0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_a_quantized_model_is_that_of_keras(mode):
    models = [trained(parts) for parts in (OURS, THEIRS)]
    exact = models[0].predict(X, verbose=0)
    for model in models:
        model.quantize(mode)
    # Where a number is at the edge of two of 255 steps, it may fall on either side.
    assert_alike(*models, 2e-2)
    np.testing.assert_allclose(models[0].predict(X, verbose=0), exact, atol=0.15)


def test_low_rank_weights_train_as_with_keras():
    models = [trained(parts) for parts in (OURS, THEIRS)]
    models[1].set_weights(models[0].get_weights())
    for model in models:
        keras.utils.set_random_seed(5)
        model.get_layer("hidden").enable_lora(2)
        model.compile((keras_ext if model is models[0] else keras).optimizers.SGD(0.1, 0.9), "sparse_categorical_crossentropy")
        model.fit(X, Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    assert {w.name for w in models[0].get_layer("hidden").trainable_weights} == {"bias", "lora_kernel_a", "lora_kernel_b"}
    assert_alike(*models)


@pytest.mark.parametrize("scope", [{"mode": "list_of_layers", "layer_names": ["dropout"]}, {"mode": "full"}], ids=lambda s: s["mode"])
def test_a_step_that_computes_activations_again_has_the_mask_of_the_first_time(scope, differentiate):
    # With Keras's Dropout PyTorch's gradient is that of another mask, and the other backends raise.
    with keras.RematScope(**scope):
        layer = keras_ext.layers.Dropout(0.5, seed=3, name="dropout")
    ones = np.ones((16, 32), "float32")
    y, (gradient,) = differentiate(layer, ones, ones)
    np.testing.assert_array_equal(gradient == 0, y == 0)


def test_a_clone_has_the_same_parts_and_weights_of_its_own():
    model = trained(OURS)
    clone = keras.models.clone_model(model)
    assert [type(layer) for layer in clone.layers] == [type(layer) for layer in model.layers]
    clone.set_weights(model.get_weights())
    assert_alike(clone, model, 1e-6)
    model.layers[0].kernel.assign(np.zeros((6, 8)))
    assert np.abs(clone.get_weights()[0]).max() > 0


def test_a_classifier_of_scikit_learn_is_that_of_keras():
    from sklearn.model_selection import cross_val_score

    scores = []
    for parts in (OURS, THEIRS):
        callbacks = [SaturationMonitor(X, Y)] if parts is OURS else []
        fit = {"epochs": 6, "batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": callbacks}
        found = keras.wrappers.SKLearnClassifier(lambda X, y, parts=parts: one_hot(network(parts)), fit_kwargs=fit)
        scores.append(cross_val_score(found, X, Y, cv=3, error_score="raise"))
    np.testing.assert_allclose(*scores, atol=1.5 / 21)


def one_hot(model):
    """The wrapper gives targets with a column for each class."""
    model.compile(model.optimizer, "categorical_crossentropy")
    return model


def test_a_submodel_and_a_model_within_a_layer_train_as_with_keras():
    found = []
    for parts in (OURS, THEIRS):
        inner = keras.Sequential(network(parts).layers)
        x = keras.Input((5, 6))
        y = keras.layers.GlobalAveragePooling1D()(keras.layers.TimeDistributed(inner)(x))
        model = keras.Model(x, y)
        model.compile(parts[1].SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        series = np.stack([X + 0.1 * i for i in range(5)], axis=1)
        model.fit(series, Y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        found.append(model.predict(series, verbose=0))
    np.testing.assert_allclose(*found, rtol=0, atol=2e-5)
