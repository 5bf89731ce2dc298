"""The search space: every choice builds, and no hyperparameter exists that its trial does not read."""

import keras
import keras_tuner
import numpy as np
import pytest

import keras_ext
from keras_ext.search import MLP, choices

pytestmark = pytest.mark.backend_free


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


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_activations_beyond_the_usual_are_offered_where_asked_for(activation):
    assert activation not in choices.ACTIVATIONS
    offered = ("relu", activation)
    for name in choices.INITIALIZERS[activation]:
        hp = keras_tuner.HyperParameters()
        hp.values = {"activation": activation, f"initializer_{activation}": name}
        assert choices.activation(hp, activations=offered) == activation
        made = choices.initializer(hp, activation, activations=offered)
        assert {h.name for h in hp.space} == {"activation", f"initializer_{activation}"}
        z = np.random.default_rng(0).normal(size=100_000)
        square = np.mean(
            keras.ops.convert_to_numpy(getattr(keras.ops, activation)(z, **({"approximate": False} if activation == "gelu" else {}))) ** 2
        )
        weights = keras.ops.convert_to_numpy(made((300, 200)))
        # Sums of `fan_in` products have the variance of the normal again; orthogonal columns have 300 entries of mean square gain^2 / 300.
        assert 300 * weights.var() * square == pytest.approx(1, rel=0.02), name


def test_initializers_of_an_activation_that_is_no_choice():
    hp = keras_tuner.HyperParameters()
    made = choices.initializer(hp, "tanh", activations=None)
    assert type(made) is keras_ext.initializers.XavierUniform
    assert [(h.name, h.values, h.conditions) for h in hp.space] == [("initializer", list(choices.INITIALIZERS["tanh"]), [])]


def test_a_threshold_comes_with_clipping_only():
    hp = keras_tuner.HyperParameters()
    assert isinstance(choices.optimizer(hp), keras_ext.optimizers.Adam)
    assert "clipping_threshold" not in hp.values
    hp.values["clipping"] = "global_norm"
    wrapped = choices.optimizer(hp)
    assert isinstance(wrapped, keras_ext.optimizers.GradientClipping)
    assert wrapped.threshold == hp.values["clipping_threshold"]


def test_a_learning_rate_needs_no_optimizer():
    hp = keras_tuner.HyperParameters()
    assert choices.learning_rate(hp) == 1e-3
    assert list(hp.values) == ["learning_rate_adam"]


@pytest.mark.parametrize(("kind", "penalty"), [("none", 0.0), ("l1", 0.3 * 6), ("l2", 0.3 * 14)])
def test_each_penalty_has_its_own_strength(kind, penalty):
    hp = keras_tuner.HyperParameters()
    hp.values["regularizer"] = kind
    if kind != "none":
        hp.values[f"regularizer_{kind}"] = 0.3
    made = choices.regularizer(hp)
    assert (0.0 if made is None else float(made(keras.ops.array([1.0, -2.0, 3.0])))) == pytest.approx(penalty, rel=1e-6)
    assert {h.name for h in hp.space if hp.is_active(h)} == {"regularizer"} | ({f"regularizer_{kind}"} if kind != "none" else set())
    assert set(hp.values) == {h.name for h in hp.space if hp.is_active(h)}


@pytest.mark.parametrize(
    ("inputs", "outputs", "width"),
    [(64, 10, 64), (4, 3, 4), (4, 1, 4), (784, 10, 256), (1, 1, 2), (120, 5, 64), (3, 100, 128), (1, 10, 8), (30, 2, 16), (45, 70, 64)],
)
def test_the_first_width_is_that_of_the_rule_of_thumb(inputs, outputs, width):
    sizes = [256, 2, 4, 8, 16, 32, 64, 128]
    hp = keras_tuner.HyperParameters()
    assert choices.units(hp, inputs, outputs, sizes) == width
    assert hp.space[0].values == sizes
    thumb = sorted([outputs, 2 * inputs / 3 + outputs, 2 * inputs])[1]
    assert all(abs(width - thumb) <= abs(size - thumb) for size in sizes)


def test_hidden_layers_begin_with_one():
    hp = keras_tuner.HyperParameters()
    assert choices.layers(hp, most=7) == 1
    assert (hp.space[0].name, hp.space[0].min_value, hp.space[0].max_value) == ("layers", 1, 7)


@pytest.mark.parametrize("kind", ["none", "batch", "layer"])
def test_each_normalization(kind):
    hp = keras_tuner.HyperParameters()
    hp.values["normalization"] = kind
    classes = {"none": [], "batch": [keras_ext.layers.BatchNormalization], "layer": [keras.layers.LayerNormalization]}
    assert [type(made) for made in choices.normalization(hp, kinds=("none", "batch", "layer"))] == classes[kind]


@pytest.mark.parametrize("sizes", [(1,), (1, 32)])
def test_a_batch_of_one_is_not_normalized_over_the_batch(sizes):
    hp = keras_tuner.HyperParameters()
    hp.values = {"batch_size": hp.Choice("batch_size", list(sizes)), "normalization": "batch"}
    assert choices.normalization(hp, batch_sizes=sizes) == []
    assert not any(hp.is_active(h) for h in hp.space if h.name == "normalization")
    hp.values["batch_size"] = 32
    assert len(choices.normalization(hp, batch_sizes=sizes)) == (32 in sizes)


@pytest.mark.parametrize(("samples", "sizes"), [(1, [1]), (10, [5]), (33, [16]), (1000, [16, 32, 64, 128])])
def test_batches_fit_the_data(samples, sizes):
    hp = keras_tuner.HyperParameters()
    choices.batch_size(hp, samples)
    assert hp.space[0].values == sizes


@pytest.mark.parametrize(
    ("samples", "sizes", "offered"),
    [
        (100, (1, 32, "full"), [1, 32, 100]),
        (100, ("full",), [100]),
        (100, (64, "full"), [100]),
        (1, (1, "full"), [1]),
        (40, (20, 21), [20]),
    ],
)
def test_batches_of_one_and_of_all_samples(samples, sizes, offered):
    hp = keras_tuner.HyperParameters()
    assert choices.batch_size(hp, samples, sizes=sizes) == offered[0]
    assert hp.space[0].values == offered


def test_the_hyperparameters_of_an_mlp_are_what_they_were():
    # Searches that are on disk hold them.
    hp = keras_tuner.HyperParameters()
    MLP((64,), classes=10, samples=1000).build(hp)
    assert hp.values == {
        "batch_size": 16,
        "activation": "relu",
        "units": 64,
        "layers": 1,
        "initializer_relu": "he_normal",
        "normalization": "none",
        "dropout": 0.0,
        "optimizer": "adam",
        "learning_rate_adam": 1e-3,
        "clipping": "none",
    }
    assert [h.name for h in hp.space] == list(hp.values)


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
        ({"batch_sizes": [0, "full"]}, "`batch_sizes` must be a sequence of positive whole numbers and \"full\", got [0, 'full']."),
        ({"mean": [0.0]}, "`mean` and `variance` must be given together, got one of them. Give both, or neither."),
    ],
)
def test_bad_arguments_are_reported(arguments, message):
    with pytest.raises(ValueError) as raised:
        MLP((4,), **arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (
            lambda hp: choices.activation(hp, activations=["swish"]),
            "`activations` must be a sequence of some of 'relu', 'leaky_relu', 'selu', 'tanh', 'sigmoid', 'gelu', 'silu', got ['swish'].",
        ),
        (
            lambda hp: choices.initializer(hp, "gelu"),
            "`activation` must be one of 'relu', 'leaky_relu', 'selu', 'tanh', 'sigmoid', got 'gelu'. "
            "Give `activations` as for the choice of the activation.",
        ),
        (lambda hp: choices.initializer(hp, "tanh", activations=None, gates=0), "`gates` must be a whole number of at least 1, got 0."),
        (
            lambda hp: choices.normalization(hp, kinds=("group",)),
            "`kinds` must be a sequence of some of 'none', 'batch', 'layer', got ('group',).",
        ),
        (lambda hp: choices.learning_rate(hp, "lion"), "`optimizer` must be one of 'adam', 'rmsprop', 'adagrad', 'sgd', got 'lion'."),
        (lambda hp: choices.regularizer(hp, strengths=(1e-2, 1e-4)), "`strengths` must be a finite number above 0.01, got 0.0001."),
        (
            lambda hp: choices.regularizer(hp, strengths=1e-4),
            "`strengths` must be a pair of numbers, the lowest and the highest, got 0.0001.",
        ),
        (lambda hp: choices.units(hp, 0, 1), "`inputs` must be a whole number of at least 1, got 0."),
        (lambda hp: choices.layers(hp, most=0), "`most` must be a whole number of at least 1, got 0."),
        (
            lambda hp: choices.batch_size(hp, 100, sizes=("all",)),
            "`sizes` must be a sequence of positive whole numbers and \"full\", got ('all',).",
        ),
    ],
)
def test_bad_arguments_of_a_choice_are_reported(choose, message):
    with pytest.raises(ValueError) as raised:
        choose(keras_tuner.HyperParameters())
    assert str(raised.value) == message
