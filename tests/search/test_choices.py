"""The search space: every choice builds, and no hyperparameter exists that its trial does not read."""

import keras
import keras_tuner
import numpy as np
import pytest

import keras_ext
from keras_ext.search import MLP, choices


@pytest.mark.parametrize("activation", choices.ACTIVATIONS)
def test_each_activation_is_offered_its_own_initializers_only(activation):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("activation", activation)
    choices.initializer(hp, activation)
    assert [h.name for h in hp.space if h.name.startswith("initializer")] == [f"initializer_{activation}"]
    for name in choices.INITIALIZERS[activation]:
        hp = keras_tuner.HyperParameters()
        hp.Fixed("activation", activation)
        hp.Fixed(f"initializer_{activation}", name)
        made = choices.initializer(hp, activation)
        assert type(made).__module__.startswith("keras_ext.")
        assert np.isfinite(keras.ops.convert_to_numpy(made((4, 4)))).all()


@pytest.mark.parametrize("name", choices.LEARNING_RATES)
def test_each_optimizer_has_its_own_rate_and_only_sgd_momentum(name):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("optimizer", name)
    made = choices.optimizer(hp)
    assert type(made).__module__.startswith("keras_ext.")
    assert float(made.learning_rate) == pytest.approx(choices.LEARNING_RATES[name][1])
    assert ("momentum" in hp.values) == (name == "sgd")
    assert [h for h in hp.values if h.startswith("learning_rate")] == [f"learning_rate_{name}"]


def test_a_threshold_comes_with_clipping_only():
    hp = keras_tuner.HyperParameters()
    assert isinstance(choices.optimizer(hp), keras_ext.optimizers.Adam)
    assert "clipping_threshold" not in hp.values
    hp.values["clipping"] = "global_norm"
    wrapped = choices.optimizer(hp)
    assert isinstance(wrapped, keras_ext.optimizers.GradientClipping)
    assert wrapped.threshold == hp.values["clipping_threshold"]


@pytest.mark.parametrize(("samples", "sizes"), [(1, [1]), (10, [5]), (33, [16]), (1000, [16, 32, 64, 128])])
def test_batches_fit_the_data(samples, sizes):
    hp = keras_tuner.HyperParameters()
    choices.batch_size(hp, samples)
    assert hp.space[0].values == sizes


def test_the_whole_space_is_known_before_the_first_trial_and_no_trial_holds_an_unread_value(tmp_path):
    space = MLP((8, 8), classes=3, mean=np.zeros((8, 8)), variance=np.ones((8, 8)), max_layers=3, samples=500)
    oracle = keras_tuner.oracles.RandomSearchOracle(space.objective, max_trials=30, seed=1)
    oracle.verbose = 0
    keras_tuner.Tuner(oracle, space, directory=tmp_path, project_name="space")
    known = {h.name for h in oracle.get_space().space}
    assert {f"learning_rate_{name}" for name in choices.LEARNING_RATES} | {"momentum", "clipping_threshold", "batch_size"} <= known
    assert {f"initializer_{name}" for name in choices.ACTIVATIONS} <= known
    for i in range(30):
        hp = oracle.create_trial(f"tuner{i}").hyperparameters
        drawn = dict(hp.values)
        assert space.build(hp).output_shape == (None, 3)
        assert hp.values == drawn  # nothing that the trial reads was unknown
        fresh = keras_tuner.HyperParameters()
        fresh.values = drawn
        space.build(fresh)
        assert set(drawn) == {h.name for h in fresh.space if fresh.is_active(h)}  # nothing that it holds is unread


def test_the_model_normalises_and_survives_a_constant_input():
    mean, variance = np.array([5.0, 1.0]), np.array([4.0, 0.0])
    space = MLP((2,), mean=mean, variance=variance)
    model = space.build(keras_tuner.HyperParameters())
    scaled = keras.Model(model.input, model.layers[1].output)
    np.testing.assert_allclose(scaled.predict(np.array([[9.0, 1.5]]), verbose=0), [[2.0, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "`classes` must be a whole number of at least 2, got 1."),
        ({"units": []}, "`units` must be a sequence of positive whole numbers, got []."),
        ({"max_layers": 0}, "`max_layers` must be a whole number of at least 1, got 0."),
        ({"mean": [0.0]}, "`mean` and `variance` must be given together, got one of them. Give both, or neither."),
    ],
)
def test_bad_arguments_are_told(arguments, message):
    with pytest.raises(ValueError) as raised:
        MLP((4,), **arguments)
    assert str(raised.value) == message
