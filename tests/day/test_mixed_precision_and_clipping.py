"""Half precision, clipping and a bad sample: the network learns as in full precision, and what was saved goes on."""

import keras
import numpy as np
import pytest

SCRIPT = """
import keras
import numpy as np
from keras_ext.callbacks import ClippingLog
from keras_ext.layers import BatchNormalization, Dropout
from keras_ext.optimizers import Adam, GradientClipping
from sklearn.datasets import load_digits

keras.config.set_dtype_policy(POLICY)
keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
x, y, x_test, y_test = images[297:] / 16, labels[297:], images[:297] / 16, labels[:297]
# Somebody's camera broke.
x[700] = np.nan
model = keras.Sequential([
    keras.Input((64,)),
    keras.layers.Dense(64, use_bias=False),
    BatchNormalization(momentum=0.9),
    keras.layers.Activation("relu"),
    Dropout(0.1),
    keras.layers.Dense(10, "softmax", dtype="float32"),
])
model.compile(GradientClipping(Adam(0.01), threshold=0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
log = model.fit(x, y, batch_size=100, epochs=4, shuffle=False, verbose=0, callbacks=[ClippingLog()]).history
accuracy = model.evaluate(x_test, y_test, batch_size=297, verbose=0)[1]
model.save("digits.keras")
"""


def clipping_of(optimizer):
    """The GradientClipping, with the LossScaleOptimizer that Keras puts around it in float16, or None."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return (optimizer.inner_optimizer, optimizer) if scaled else (optimizer, None)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_it_learns_clips_leaves_the_bad_batch_out_and_goes_on(policy, run_here, tmp_path):
    names = run_here(SCRIPT.replace("POLICY", repr(policy)), tmp_path)
    model, log = names["model"], names["log"]
    # Chance is .1.
    assert names["accuracy"] > 0.85
    assert all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights)
    assert {keras.backend.standardize_dtype(w.dtype) for w in model.weights} == {"float32"}
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")

    # Fifteen batches an epoch, one of them bad. In float16 the scaling takes it for an overflow, and halves the scale.
    clipping, scaling = clipping_of(model.optimizer)
    taken = 4 * 14
    assert int(keras.ops.convert_to_numpy(clipping.iterations)) == taken
    if policy == "mixed_float16":
        assert (clipping.steps, clipping.skipped_steps, log["skipped_steps"]) == (taken, 0, [0] * 4)
        assert float(keras.ops.convert_to_numpy(scaling.dynamic_scale)) == 2.0**15 / 2**4
    else:
        assert scaling is None
        assert (clipping.steps, clipping.skipped_steps, log["skipped_steps"]) == (taken + 4, 4, [1] * 4)
    # The norm is that of the gradients, not of the scaled loss's: some ten thousand times as large.
    assert all(0.05 < norm < 5 for norm in log["gradient_norm"])
    assert clipping.clipped_steps == sum(round(14 * share) for share in log["clipped_share"]) > 0

    # Under another policy Keras makes the optimizer without its scaling, and drops the state.
    keras.config.set_dtype_policy(policy)
    loaded = keras.models.load_model(tmp_path / "digits.keras")
    again, scale = clipping_of(loaded.optimizer)
    assert (again.steps, again.clipped_steps, again.threshold) == (clipping.steps, clipping.clipped_steps, 0.5)
    if scaling is not None:
        assert float(keras.ops.convert_to_numpy(scale.dynamic_scale)) == float(keras.ops.convert_to_numpy(scaling.dynamic_scale))
    x, y = names["x_test"], names["y_test"]
    assert loaded.evaluate(x, y, batch_size=297, verbose=0)[1] == names["accuracy"]
    loaded.fit(x, y, batch_size=100, epochs=1, verbose=0)
    assert int(keras.ops.convert_to_numpy(again.iterations)) == taken + 3
    assert loaded.evaluate(x, y, batch_size=297, verbose=0)[1] >= names["accuracy"]
