"""Arguments that are about some of the weights: factors of the rate, and no weight decay, by what is found in a weight's path."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

NAMES = ["SGD", "Adagrad", "RMSprop", "Adam"]
every_name = pytest.mark.parametrize("name", NAMES)


def network():
    """An encoder with a norm, and a head; all weights are 1."""
    encoder = [keras.layers.Dense(3, name="dense"), keras.layers.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.Input((2,)), keras.Sequential(encoder, name="encoder"), keras.layers.Dense(1, name="head")], name="net")
    for weight in model.trainable_weights:
        weight.assign(ops.ones(weight.shape))
    return model


def of_path(model):
    """The trainable weights by path, without what a sequential model adds in front of it."""
    return {"/".join(w.path.split("/")[-2:]): np.array(ops.convert_to_numpy(w)) for w in model.trainable_weights}


def stepped(optimizer, model=None, gradient=0.0, steps=1):
    model = model or network()
    for _ in range(steps):
        optimizer.apply([ops.full(w.shape, gradient) for w in model.trainable_weights], model.trainable_weights)
    return of_path(model)


def kept(weights):
    """The paths of the weights that did not move from 1."""
    return {path for path, value in weights.items() if (value == 1).all()}


ALL = {"dense/kernel", "dense/bias", "norm/gamma", "norm/beta", "head/kernel", "head/bias"}
DECAY = {"learning_rate": 0.1, "weight_decay": 0.5}


@every_name
def test_without_a_gradient_decay_alone_moves_the_weights(name):
    for path, value in stepped(getattr(optimizers, name)(**DECAY)).items():
        np.testing.assert_allclose(value, 1 - 0.1 * 0.5, rtol=1e-6, err_msg=path)


@every_name
@pytest.mark.parametrize(
    ("arguments", "excluded"),
    [
        ({"exclude_from_weight_decay": ["bias"]}, {"dense/bias", "head/bias"}),
        ({"exclude_from_weight_decay": ["encoder/dense/"]}, {"dense/kernel", "dense/bias"}),
        ({"exclude_from_weight_decay": ["norm/(gamma|beta)$", "head.*kernel"]}, {"norm/gamma", "norm/beta", "head/kernel"}),
        ({"exclude_norms_and_biases": True}, ALL - {"dense/kernel", "head/kernel"}),
        ({"exclude_norms_and_biases": True, "exclude_from_weight_decay": ["head"]}, ALL - {"dense/kernel"}),
        ({"exclude_from_weight_decay": []}, set()),
    ],
)
def test_excluded_weights_do_not_decay_and_the_others_do(name, arguments, excluded):
    assert kept(stepped(getattr(optimizers, name)(**DECAY, **arguments))) == excluded


def test_names_that_end_in_bias_gamma_or_beta_count_whatever_their_axes():
    shapes = {"my_bias": (2, 2), "a_gamma": (2, 2), "the_beta": (2, 2), "alpha": (2, 2), "v": (2,)}
    variables = [keras.Variable(np.ones(shape, "float32"), name=name) for name, shape in shapes.items()]
    optimizer = optimizers.SGD(**DECAY, exclude_norms_and_biases=True)
    optimizer.apply([ops.zeros(v.shape) for v in variables], variables)
    assert [v.name for v in variables if (ops.convert_to_numpy(v) < 1).any()] == ["alpha"]


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    ("var_names", "excluded"),
    [
        (["bias"], {"dense/bias", "head/bias"}),
        (["^kernel", "beta"], {"dense/kernel", "head/kernel", "norm/beta"}),
        (["gamma$"], {"norm/gamma"}),
        # The name of a layer is no part of the weight's own.
        (["dense", "norm"], set()),
        (["zz|^bia"], {"dense/bias", "head/bias"}),
        (["^zz|ias"], {"dense/bias", "head/bias"}),
        (["(?i)BIAS"], {"dense/bias", "head/bias"}),
    ],
)
def test_the_method_excludes_by_the_weights_own_names(var_names, excluded, built):
    model = network()
    optimizer = optimizers.Adam(**DECAY)
    if built:
        optimizer.build(model.trainable_weights)
    optimizer.exclude_from_weight_decay(var_names=var_names)
    assert kept(stepped(optimizer, model)) == excluded


@pytest.mark.parametrize("built", [False, True])
def test_the_method_excludes_variables_instead_of_what_was_excluded_before(built):
    model = network()
    chosen = [w for w in model.trainable_weights if w.path.endswith(("dense/kernel", "head/bias"))]
    optimizer = optimizers.RMSprop(**DECAY, exclude_from_weight_decay=["norm"])
    if built:
        optimizer.build(model.trainable_weights)
    optimizer.exclude_from_weight_decay(var_list=chosen)
    assert kept(stepped(optimizer, model)) == {"dense/kernel", "head/bias"}
    optimizer.exclude_from_weight_decay(var_list=chosen[:1], var_names=["beta"])
    assert optimizer.built
    model = network()
    again = optimizers.RMSprop(**DECAY)
    again.exclude_from_weight_decay(var_list=[w for w in model.trainable_weights if w.path.endswith("dense/kernel")], var_names=["beta"])
    assert kept(stepped(again, model)) == {"dense/kernel", "norm/beta"}


def test_of_two_variables_of_one_name_the_given_one_alone_is_excluded():
    one, other = (keras.Variable([1.0], name="twin") for _ in range(2))
    optimizer = optimizers.SGD(**DECAY)
    optimizer.exclude_from_weight_decay(var_list=[one])
    optimizer.apply([ops.zeros((1,)), ops.zeros((1,))], [one, other])
    np.testing.assert_allclose([float(one[0]), float(other[0])], [1.0, 0.95], rtol=1e-6)


@every_name
def test_a_factor_scales_the_rate_of_the_weights_that_it_is_for(name):
    factors = {"encoder/dense/kernel": 0.5, "encoder": 0.25, "head/bias": 0.0}
    got = stepped(getattr(optimizers, name)(0.01, learning_rate_multipliers=factors), gradient=1.0, steps=3)
    # The first that is found counts.
    own = {"dense/kernel": 0.5, "dense/bias": 0.25, "norm/gamma": 0.25, "norm/beta": 0.25, "head/kernel": 1.0, "head/bias": 0.0}
    assert set(own) == ALL
    for path, factor in own.items():
        wanted = stepped(getattr(optimizers, name)(0.01 * factor), gradient=1.0, steps=3)[path]
        np.testing.assert_allclose(got[path], wanted, rtol=1e-6, err_msg=path)
    assert kept(got) == {"head/bias"}


@every_name
def test_decay_follows_the_factor_as_it_does_the_rate(name):
    got = stepped(getattr(optimizers, name)(**DECAY, learning_rate_multipliers={"head": 0.5}, exclude_from_weight_decay=["head/bias"]))
    assert kept(got) == {"head/bias"}
    np.testing.assert_allclose(got["head/kernel"], 1 - 0.1 * 0.5 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(got["dense/kernel"], 1 - 0.1 * 0.5, rtol=1e-6)


def test_momentum_of_a_factor_of_two_is_that_of_twice_the_rate():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    twice = keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.5)
    got = stepped(optimizers.SGD(schedule, momentum=0.9, learning_rate_multipliers={"head": 2.0}), gradient=1.0, steps=5)
    for rate, paths in ((schedule, ALL - {"head/kernel", "head/bias"}), (twice, {"head/kernel", "head/bias"})):
        wanted = stepped(optimizers.SGD(rate, momentum=0.9), gradient=1.0, steps=5)
        for path in paths:
            np.testing.assert_allclose(got[path], wanted[path], rtol=1e-6)


CHOSEN = {
    "learning_rate_multipliers": {"encoder/": 0.5, "head/bias": 0.0},
    "exclude_from_weight_decay": ["norm/"],
    "exclude_norms_and_biases": True,
}


@every_name
def test_the_config_holds_the_choices_in_their_order(name):
    config = json.loads(json.dumps(getattr(optimizers, name)(**DECAY, **CHOSEN).get_config()))
    assert {key: config[key] for key in CHOSEN} == CHOSEN
    assert list(config["learning_rate_multipliers"]) == list(CHOSEN["learning_rate_multipliers"])
    again = getattr(optimizers, name).from_config(config)
    wanted = stepped(getattr(optimizers, name)(**DECAY, **CHOSEN), gradient=0.5)
    for path, value in stepped(again, gradient=0.5).items():
        np.testing.assert_array_equal(value, wanted[path])


def test_exclusions_by_the_method_are_in_the_config_too():
    model = network()
    optimizer = optimizers.SGD(**DECAY)
    optimizer.exclude_from_weight_decay(
        var_list=[w for w in model.trainable_weights if w.path.endswith("head/kernel")], var_names=["^bias"]
    )
    again = optimizers.SGD.from_config(json.loads(json.dumps(optimizer.get_config())))
    assert kept(stepped(again)) == {"head/kernel", "dense/bias", "head/bias"}


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 2)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")


def survive(model, tmp_path):
    """Whether a model from the file of `model`, and a clone of it, train as it does."""
    model.fit(*data(), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.compile_from_config(model.get_compile_config())
    clone.optimizer.build(clone.trainable_variables)
    clone.optimizer.set_weights([ops.convert_to_numpy(v) for v in model.optimizer.variables])
    for each in (model, loaded, clone):
        each.fit(*data(), epochs=2, shuffle=False, verbose=0)
    for mine, cloned, wanted in zip(loaded.get_weights(), clone.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=1e-6)
        np.testing.assert_allclose(cloned, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate_multipliers": {"dense/": 0.5, "head/bias": 0.0}, "exclude_from_weight_decay": ["norm/"]},
        {"learning_rate_multipliers": {"head": 0.25}, "exclude_norms_and_biases": True},
        # The name of a model inside another: Keras leaves it out of the paths of a model that was built layer by layer before.
        {"learning_rate_multipliers": {"encoder/": 0.5}},
    ],
)
def test_the_choices_survive_a_file_and_a_clone(arguments, tmp_path):
    model = network()
    model.compile(optimizers.Adam(**DECAY, **arguments), "mse")
    survive(model, tmp_path)


def test_excluded_variables_survive_a_file_and_a_clone(tmp_path):
    model = network()
    optimizer = optimizers.Adam(**DECAY)
    optimizer.exclude_from_weight_decay(var_list=[w for w in model.trainable_weights if w.path.endswith("kernel")])
    model.compile(optimizer, "mse")
    survive(model, tmp_path)


def test_a_pattern_that_is_found_nowhere_warns():
    model = network()
    optimizer = optimizers.SGD(0.1, learning_rate_multipliers={"head": 0.5, "haed/": 0.5})
    message = r"`learning_rate_multipliers`: 'haed/' is found in no weight's path; there are .*dense/kernel, .*, \.\.\."
    with pytest.warns(UserWarning, match=message) as caught:
        optimizer.build(model.trainable_weights)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizers.SGD(0.1, learning_rate_multipliers={"head": 0.5}).build(model.trainable_weights)


def test_keras_config_forgets_what_is_excluded_from_weight_decay():
    theirs = keras.optimizers.SGD(0.1, weight_decay=0.1)
    theirs.exclude_from_weight_decay(var_names=["bias"])
    assert theirs.get_config() == keras.optimizers.SGD(0.1, weight_decay=0.1, name=theirs.name).get_config()
