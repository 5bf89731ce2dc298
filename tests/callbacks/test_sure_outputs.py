"""Outputs that are sure and wrong: probabilities of zero, which the loss cuts off, have no gradient."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_wine

from keras_ext.callbacks import SaturationMonitor


def trained(rate):
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((13,))])
    for _ in range(4):
        model.add(keras.layers.Dense(128, kernel_initializer="he_uniform"))
        model.add(keras.layers.LeakyReLU(0.3))
    model.add(keras.layers.Dense(3, "softmax", name="classes"))
    model.compile(keras.optimizers.RMSprop(rate), "sparse_categorical_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    losses = model.fit(x, y, batch_size=16, epochs=14, verbose=0, callbacks=[monitor]).history["loss"]
    return losses, monitor.findings


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras computes this loss of the logits there")
def test_a_rate_that_makes_the_output_sure_and_wrong_is_named_where_the_gradient_ends():
    losses, findings = trained(0.05)
    # A sample of probability 1e-7 costs 16.1: a quarter of the samples or more are wrong.
    assert losses[-1] > 0.25 * -np.log(1e-7)
    first, *others = [f for f in findings if f.severity == "critical"]
    assert first.symptom == "zero_gradient"
    assert "outputs of 'classes' are 0 or 1" in first.advice
    assert "wrong outputs have no gradient. Lower the learning rate tenfold" in first.advice
    assert {f.symptom for f in others} <= {"stalled_loss"}
    late = next(f for f in findings if f.symptom == "stalled_loss")
    assert "Lower the learning rate tenfold" in late.advice


def test_outputs_that_are_sure_and_right_are_healthy():
    losses, findings = trained(0.001)
    assert losses[-1] < 0.05
    assert not [f for f in findings if f.severity == "critical" or f.symptom == "zero_gradient"]
