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
def test_each_optimizer_has_its_own_rate_and_only_sgd_a_kind(name):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("optimizer", name)
    made = choices.optimizer(hp)
    assert type(made).__module__.startswith("keras_ext.")
    assert float(made.learning_rate) == pytest.approx(choices.LEARNING_RATES[name][1])
    assert ("sgd" in hp.values) == (name == "sgd")
    assert "momentum" not in hp.values
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
    assert not [name for name in hp.values if name.startswith("clipping_threshold")]
    hp.values["clipping"] = "global_norm"
    wrapped = choices.optimizer(hp)
    assert isinstance(wrapped, keras_ext.optimizers.GradientClipping)
    assert wrapped.threshold == hp.values["clipping_threshold_global_norm"]


@pytest.mark.parametrize("rule", choices.THRESHOLDS)
def test_each_clipping_rule_has_its_own_threshold(rule):
    hp = keras_tuner.HyperParameters()
    hp.values["clipping"] = rule
    wrapped = choices.clipping(hp, keras_ext.optimizers.Adam(), rules=choices.ALL_CLIPPINGS)
    low, usual, high = choices.THRESHOLDS[rule]
    assert (wrapped.rule, wrapped.threshold) == (rule, usual)
    assert hp.values == {"clipping": rule, f"clipping_threshold_{rule}": usual}
    assert type(wrapped._rule) is keras_ext.optimizers.clipping_rules.RULES[rule]
    for bound in (low, high):
        hp.values[f"clipping_threshold_{rule}"] = bound
        assert choices.clipping(hp, keras_ext.optimizers.Adam(), rules=choices.ALL_CLIPPINGS).threshold == bound


def test_sgd_has_a_momentum_where_its_kind_has_one():
    for kind in ("plain", "momentum", "nesterov"):
        hp = keras_tuner.HyperParameters()
        hp.values = {"optimizer": "sgd", "sgd": kind, **({} if kind == "plain" else {"momentum": 0.95})}
        known = dict(hp.values)
        made = choices.optimizer(hp)
        assert (made.momentum, made.nesterov) == (0.0 if kind == "plain" else 0.95, kind == "nesterov")
        assert {**known, "learning_rate_sgd": 1e-2, "clipping": "none"} == hp.values


def test_averages_are_choices_of_the_optimizers_that_have_them():
    for name, expected in (("adam", {"beta_1", "beta_2"}), ("rmsprop", {"rho"}), ("adagrad", set()), ("sgd", set())):
        hp = keras_tuner.HyperParameters()
        hp.values["optimizer"] = name
        made, usual = choices.optimizer(hp, averages=True), choices.optimizer(keras_tuner.HyperParameters())
        assert set(hp.values) & {"beta_1", "beta_2", "rho"} == expected
        for each in expected:
            assert getattr(made, each) == hp.values[each]
            hp.values[each] = hp.space[[h.name for h in hp.space].index(each)].values[0]
            assert getattr(choices.optimizer(hp, averages=True), each) == hp.values[each]
        if name == "adam":
            assert made.get_config() == {**usual.get_config(), "name": made.name}


@pytest.mark.parametrize("kind", choices.SCHEDULES)
@pytest.mark.parametrize("steps", [10, 37, 1000])
def test_a_schedule_has_its_highest_rate_in_the_training_and_falls_at_its_end(kind, steps):
    hp = keras_tuner.HyperParameters()
    hp.values["schedule"] = kind
    made = choices.schedule(hp, 0.2, steps)
    if kind == "constant":
        assert made == 0.2
        return
    rates = np.array([float(keras.ops.convert_to_numpy(made(step))) for step in range(steps + 1)])
    assert rates[:-1].max() == pytest.approx(0.2, rel=1e-6)
    assert rates.min() >= -1e-9
    begin, end = {"warmup_cosine": (0, 0), "one_cycle": (0.2 / 25, 0.2 / 25e4), "cyclic": (0.05, 0.05)}[kind]
    assert rates[0] == pytest.approx(begin, abs=1e-9)
    if kind != "cyclic" or steps % 10 == 0:
        assert rates[-1] == pytest.approx(end, abs=1e-6)
    turns = np.flatnonzero(np.diff(np.sign(np.diff(rates))))
    assert len(turns) <= (11 if kind == "cyclic" else 2)


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_a_training_of_few_steps_has_schedules_too(steps):
    for kind in choices.SCHEDULES[1:]:
        hp = keras_tuner.HyperParameters()
        hp.values["schedule"] = kind
        made = choices.schedule(hp, 0.2, steps)
        rates = [float(keras.ops.convert_to_numpy(made(step))) for step in range(20)]
        assert min(rates) >= 0
        assert max(rates) == pytest.approx(0.2, rel=1e-6)


def test_a_schedule_is_the_rate_of_the_optimizer_within_its_clipping():
    hp = keras_tuner.HyperParameters()
    hp.values = {"schedule": "one_cycle", "clipping": "norm"}
    made = choices.optimizer(hp, rules=choices.ALL_CLIPPINGS, steps=50)
    course = made.inner_optimizer._learning_rate
    assert (course.max_learning_rate, course.total_steps) == (hp.values["learning_rate_adam"], 50)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(made, "mse")
    model.fit(np.ones((20, 2)), np.ones(20), batch_size=2, epochs=1, verbose=0)
    assert int(made.inner_optimizer.iterations) == 10
    assert float(made.learning_rate) == pytest.approx(float(keras.ops.convert_to_numpy(course(10))), rel=1e-5)


@pytest.mark.parametrize("activation", choices.ALL_ACTIVATIONS)
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_a_gain_scales_the_weights_of_its_activation(activation, factor):
    hp = keras_tuner.HyperParameters()
    name = f"initializer_{activation}"
    hp.values = {"activation": activation, name: "variance_scaling", f"{name}_gain": factor}
    hp.Choice("activation", list(choices.ALL_ACTIVATIONS))
    made = choices.initializer(hp, activation, activations=choices.ALL_ACTIVATIONS, gains=True)
    z = np.random.default_rng(0).normal(size=100_000).astype("float32")[:, None]
    layer = choices.activation_layer(activation)
    square = np.mean(np.square(keras.ops.convert_to_numpy(layer(z)).astype("float64")))
    weights = keras.ops.convert_to_numpy(made((300, 200)))
    assert 300 * weights.var() * square == pytest.approx(factor**2, rel=0.02)
    assert "variance_scaling" not in _values_without_gains(activation)


def _values_without_gains(activation):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("activation", activation)
    choices.initializer(hp, activation, activations=choices.ALL_ACTIVATIONS)
    return hp.space[-1].values


@pytest.mark.parametrize("activation", choices.ALL_ACTIVATIONS)
def test_the_layer_of_an_activation_computes_it(activation):
    z = np.linspace(-3, 3, 13).astype("float32")[None]
    layer = choices.activation_layer(activation, "one")
    found = keras.ops.convert_to_numpy(layer(z))
    expected = np.where(z > 0, z, 0.25 * z) if activation == "prelu" else keras.ops.convert_to_numpy(keras.activations.get(activation)(z))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert layer.name == "one"
    assert len(layer.trainable_variables) == (activation == "prelu")


def test_a_prelu_of_images_has_a_slope_for_each_channel():
    layer = choices.activation_layer("prelu", shared_axes=(1, 2))
    layer(np.zeros((1, 4, 5, 3), "float32"))
    assert layer.alpha.shape == (1, 1, 3)


@pytest.mark.parametrize(("spatial", "shape"), [(1, (2, 50, 8)), (2, (2, 6, 7, 8)), (3, (2, 3, 4, 5, 8))])
def test_spatial_dropout_drops_whole_channels(spatial, shape):
    hp = keras_tuner.HyperParameters()
    assert choices.dropout(hp, "rate", spatial=spatial) == []
    hp.values["rate"] = 0.5
    (layer,) = choices.dropout(hp, "rate", spatial=spatial, seed=1)
    kept = keras.ops.convert_to_numpy(layer(np.ones(shape, "float32"), training=True)).reshape(2, -1, 8)
    assert (kept == kept[:, :1]).all()
    assert {0.0, 2.0} == set(np.unique(kept))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_widths_of_a_pyramid_fall_by_equal_ratios_to_the_outputs(count):
    hp = keras_tuner.HyperParameters()
    hp.values["units"] = 256
    found = choices.widths(hp, count, inputs=64, outputs=10, kind="pyramid", most=20)
    assert (len(found), found[0]) == (count, 256)
    np.testing.assert_allclose(found, [256 * (10 / 256) ** (i / count) for i in range(count)], atol=0.5)
    hp.values["units"] = 4
    assert choices.widths(hp, count, inputs=64, outputs=10, kind="pyramid", most=20) == [4] * count
    assert list(hp.values) == ["units"]


def test_free_widths_exist_as_far_as_there_are_layers():
    for count in (1, 2, 4):
        hp = keras_tuner.HyperParameters()
        hp.values = {"layers": count}
        found = choices.widths(hp, choices.layers(hp, 4), 64, 10, kind="free", most=4)
        names = ["units", *(f"units_{i}" for i in range(2, count + 1))]
        assert [name for name in hp.values if name.startswith("units")] == names
        hp.values |= {name: 32 * 2**i for i, name in enumerate(names)}
        assert choices.widths(hp, count, 64, 10, kind="free", most=4) == [32 * 2**i for i in range(count)] != found


def test_one_width_is_that_of_all_layers():
    assert choices.widths(keras_tuner.HyperParameters(), 3, 64, 10) == [64, 64, 64]


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
    assert {f"learning_rate_{name}" for name in choices.LEARNING_RATES} | {
        "momentum",
        "clipping_threshold_global_norm",
        "batch_size",
    } <= known
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
            "`activations` must be a sequence of some of 'relu', 'leaky_relu', 'selu', 'tanh', 'sigmoid', 'gelu', 'silu', 'prelu', "
            "got ['swish'].",
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
        (
            lambda hp: choices.activation_layer("relu6"),
            "`activation` must be one of 'relu', 'leaky_relu', 'selu', 'tanh', 'sigmoid', 'gelu', 'silu', 'prelu', got 'relu6'.",
        ),
        (lambda hp: choices.dropout(hp, spatial=4), "`spatial` must be one of 0, 1, 2, 3, got 4."),
        (
            lambda hp: choices.clipping(hp, keras_ext.optimizers.Adam(), rules=("agc",)),
            "`rules` must be a sequence of some of 'none', 'value', 'norm', 'global_norm', 'adaptive', 'percentile', 'zscore', "
            "got ('agc',).",
        ),
        (
            lambda hp: choices.schedule(hp, 0.1, 100, kinds=("step",)),
            "`kinds` must be a sequence of some of 'constant', 'warmup_cosine', 'one_cycle', 'cyclic', got ('step',).",
        ),
        (lambda hp: choices.schedule(hp, 0.0, 100), "`rate` must be a finite number above 0, got 0.0."),
        (lambda hp: choices.schedule(hp, 0.1, 0), "`steps` must be a whole number of at least 1, got 0."),
        (lambda hp: choices.widths(hp, 2, 4, 1, kind="cone"), "`kind` must be one of 'same', 'pyramid', 'free', got 'cone'."),
        (lambda hp: choices.widths(hp, 5, 4, 1), "`count` must be a whole number of at most 4, got 5."),
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
