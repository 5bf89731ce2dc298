"""Keras's optimizers from ours and ours from Keras's, with what they have learned, by function and by file."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_ext
from keras_ext import optimizers
from keras_ext.optimizers import clipping_rules, from_keras, to_keras

SHAPES = [(3, 2), (2,), (2, 1)]
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "clipnorm": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "epsilon": 1e-3, "global_clipnorm": 1.0}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "rho": 0.8, "epsilon": 1e-2, "clipvalue": 0.5}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.8, "beta_2": 0.9, "weight_decay": 0.01, "use_ema": True, "ema_momentum": 0.9}),
    ("Adam", {"gradient_accumulation_steps": 2, "loss_scale_factor": 4.0}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.2, "amsgrad": True}),
]
OURS = {"AdamW": optimizers.Adam}


def start():
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=shape), dtype="float32", name=name)
        for shape, name in zip(SHAPES, ("kernel", "bias", "head"), strict=True)
    ]


def arrays(variables):
    # A copy: on PyTorch the array would be the variable's own memory.
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def steps(optimizer, variables, first, last):
    for t in range(first, last):
        rng = np.random.default_rng(t)
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=shape).astype("float32")) for shape in SHAPES], variables)
    return arrays(variables)


def goes_on_equal(old, new, variables, count=20):
    """Whether both optimizers, on the same weights, take the same further steps."""
    assert [(v.name, tuple(v.shape), str(v.dtype)) for v in new.variables] == [
        (v.name, tuple(v.shape), str(v.dtype)) for v in old.variables
    ]
    for mine, theirs in zip(arrays(new.variables), arrays(old.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    kept = arrays(variables)
    wanted = steps(old, variables, 5, 5 + count)
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    got = steps(new, variables, 5, 5 + count)
    assert all(np.abs(w - k).max() > 1e-3 for w, k in zip(wanted, kept, strict=True))
    for mine, theirs in zip(got, wanted, strict=True):
        # 20 steps of about 0.01 in float32, rounded in two orders.
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(arrays(new.variables), arrays(old.variables), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_ours_goes_on_where_keras_is_and_back(name, arguments):
    variables = start()
    theirs = getattr(keras.optimizers, name)(0.01, **arguments)
    steps(theirs, variables, 0, 5)
    theirs.learning_rate = 0.02
    ours = from_keras(theirs)
    assert type(ours) is OURS.get(name) or type(ours) is getattr(optimizers, name)
    assert ours.name == theirs.name
    config, wanted = ours.get_config(), theirs.get_config()
    assert {key: config[key] for key in wanted} == wanted
    # On JAX each step that may accumulate compiles its condition again.
    count = 4 if "gradient_accumulation_steps" in arguments else 20
    goes_on_equal(theirs, ours, variables, count)
    variables = start()
    ours = getattr(optimizers, name.replace("AdamW", "Adam"))(0.01, **arguments)
    steps(ours, variables, 0, 5)
    back = to_keras(ours)
    # On PyTorch Keras makes an object of a class of its own.
    assert isinstance(back, getattr(keras.optimizers, name.replace("AdamW", "Adam")))
    assert not isinstance(back, type(ours))
    goes_on_equal(ours, back, variables, count)
    assert from_keras(ours) is ours
    assert to_keras(back) is back


@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_an_optimizer_before_its_first_step_is_exchanged_too(convert):
    module = keras.optimizers if convert is from_keras else optimizers
    old = module.RMSprop(0.01, momentum=0.5)
    old.learning_rate = 0.03
    new = convert(old)
    assert not new.built
    for mine, theirs in zip(steps(new, start(), 0, 3), steps(old, start(), 0, 3), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_schedules_and_functions_go_along(convert):
    module = keras.optimizers if convert is from_keras else optimizers
    rates = {"rate": 0.01}
    for rate in (keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5), lambda: rates["rate"]):
        variables = start()
        old = module.Adam(rate)
        steps(old, variables, 0, 5)
        new = convert(old)
        goes_on_equal(old, new, variables, 3)
    rates["rate"] = 0.5
    assert float(new.learning_rate) == 0.5


def test_thresholds_of_zero_which_do_nothing_in_keras_are_left_out():
    variables = start()
    theirs = keras.optimizers.Adam(0.01, clipnorm=0)
    steps(theirs, variables, 0, 5)
    ours = from_keras(theirs)
    assert ours.clipnorm is None
    goes_on_equal(theirs, ours, variables, 3)


@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_a_loss_scale_optimizer_around_it_is_gone_through(convert):
    module = keras.optimizers if convert is from_keras else optimizers
    variables = start()
    old = keras.optimizers.LossScaleOptimizer(module.Adam(0.01), initial_scale=8.0, dynamic_growth_steps=4, name="scaled")
    old.build(variables)
    old.variables[0].assign(3)
    old.variables[1].assign(16.0)
    inner = old.inner_optimizer
    steps(inner, variables, 0, 5)
    new = convert(old)
    assert type(new) is keras.optimizers.LossScaleOptimizer
    assert isinstance(new.inner_optimizer, optimizers.Adam if convert is from_keras else keras.optimizers.Adam)
    assert (new.initial_scale, new.dynamic_growth_steps, new.name) == (8.0, 4, "scaled")
    for mine, theirs in zip(arrays(new.variables), arrays(old.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    goes_on_equal(inner, new.inner_optimizer, variables, 3)


def test_gradient_clipping_around_it_is_gone_through():
    variables = start()
    old = optimizers.GradientClipping(keras.optimizers.SGD(0.05, momentum=0.9), "value", 0.25)
    steps(old, variables, 0, 5)
    new = from_keras(old)
    assert (type(new), new.rule, new.threshold) == (optimizers.GradientClipping, "value", 0.25)
    assert type(new.inner_optimizer) is optimizers.SGD
    goes_on_equal(old, new, variables, 3)
    assert isinstance(to_keras(new).inner_optimizer, keras.optimizers.SGD)


def moved_by_decay(optimizer, variables):
    """The names of the weights that a step without gradients moves."""
    before = arrays(variables)
    optimizer.apply([ops.zeros(shape) for shape in SHAPES], variables)
    return [v.name for v, old in zip(variables, before, strict=True) if (ops.convert_to_numpy(v) != old).any()]


@pytest.mark.parametrize(
    ("names", "chosen", "wanted"),
    [
        (["bias"], [], ["kernel", "head"]),
        (None, [0, 2], ["bias"]),
        (["^ker"], [1], ["head"]),
        (["kern", "^bi"], [], ["head"]),
        (["(?i)BIAS"], [], ["kernel", "head"]),
    ],
)
def test_what_keras_excludes_from_weight_decay_stays_excluded(names, chosen, wanted):
    variables = start()
    theirs = keras.optimizers.SGD(0.01, weight_decay=0.5)
    theirs.exclude_from_weight_decay(var_list=[variables[i] for i in chosen], var_names=names)
    theirs.build(variables)
    ours = from_keras(theirs)
    assert moved_by_decay(theirs, variables) == wanted
    assert moved_by_decay(ours, variables) == wanted


def test_exclusions_by_the_name_of_a_layer_are_those_of_keras():
    def network():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="first"), keras.layers.Dense(1, name="second")])

    decays = []
    for convert in (lambda optimizer: optimizer, from_keras):
        model = network()
        for weight in model.weights:
            weight.assign(ops.ones(weight.shape))
        theirs = keras.optimizers.SGD(0.1, weight_decay=0.5)
        # On TensorFlow alone the name that Keras searches has the layer's in it.
        theirs.exclude_from_weight_decay(var_names=["first"])
        theirs.build(model.trainable_variables)
        convert(theirs).apply([ops.zeros(w.shape) for w in model.weights], model.trainable_variables)
        decays.append([bool((w < 1).any()) for w in model.get_weights()])
    assert decays[1] == decays[0]


@pytest.mark.parametrize("arguments", [{"exclude_from_weight_decay": ["bias"]}, {"exclude_norms_and_biases": True}])
def test_what_ours_excludes_from_weight_decay_stays_excluded(arguments):
    variables = start()
    ours = optimizers.Adam(0.01, weight_decay=0.5, **arguments)
    ours.build(variables)
    theirs = to_keras(ours)
    assert moved_by_decay(ours, variables) == ["kernel", "head"]
    assert moved_by_decay(theirs, variables) == ["kernel", "head"]


class Mine(keras.optimizers.Adam):
    pass


@pytest.mark.parametrize("make", [keras.optimizers.Lion, Mine, lambda: keras.optimizers.LossScaleOptimizer(Mine())])
def test_what_has_no_counterpart_of_ours_is_refused(make):
    with pytest.raises(
        TypeError, match=r"`optimizer` must be SGD, Adagrad, RMSprop, Adam or AdamW of Keras, got .*There is no other of ours"
    ):
        from_keras(make())


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("SGD", {"lazy": True}, "lazy=True"),
        ("SGD", {"momentum": 0.9, "dampening": 0.5}, "dampening=0.5"),
        ("Adagrad", {"epsilon_outside": True}, "epsilon_outside=True"),
        ("RMSprop", {"epsilon_outside": True, "lazy": True}, "lazy=True, epsilon_outside=True"),
        ("Adam", {"epsilon_root": 0.1}, "epsilon_root=0.1"),
        ("Adam", {"bias_correction": False}, "bias_correction=False"),
        ("Adam", {"master_weights": True}, "master_weights=True"),
        ("Adagrad", {"learning_rate_multipliers": {"a": 0.5}}, "learning_rate_multipliers={'a': 0.5}"),
    ],
)
def test_what_keras_cannot_do_is_refused(name, arguments, shown):
    with pytest.raises(ValueError) as caught:
        to_keras(getattr(optimizers, name)(**arguments))
    assert str(caught.value).startswith("`optimizer` must be one that does what Keras's can, got ")
    assert shown in str(caught.value)
    assert str(caught.value).endswith(" Keep ours for it.")


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="`optimizer` must be SGD, Adagrad, RMSprop or Adam of keras_ext, got 'sgd'"):
        to_keras("sgd")
    with pytest.raises(ValueError, match="Weights are excluded from weight decay by their path, which Keras's cannot"):
        to_keras(optimizers.SGD(weight_decay=0.1, exclude_norms_and_biases=True))
    theirs = keras.optimizers.SGD(weight_decay=0.1)
    theirs.exclude_from_weight_decay(var_list=start())
    with pytest.raises(ValueError, match="The optimizer excludes single weights from weight decay"):
        from_keras(theirs)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")


def network(optimizer):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh", name="first"), keras.layers.Dense(1, name="second")], name="net"
    )
    model.compile(optimizer, "mse")
    return model


def fit(model, epochs):
    model.fit(*data(), batch_size=4, epochs=epochs, shuffle=False, verbose=0)


def trains_as(model, other):
    start = model.get_weights()
    for each in (model, other):
        fit(each, 2)
    assert int(model.optimizer.iterations) == int(other.optimizer.iterations) == 16
    for old, mine, theirs in zip(start, model.get_weights(), other.get_weights(), strict=True):
        assert np.abs(mine - old).max() > 1e-4
        # Eight steps, and a compiled gradient of each.
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
@pytest.mark.parametrize("giver", ["keras", "ours"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SGD", {"momentum": 0.9}),
        ("Adagrad", {}),
        ("RMSprop", {"centered": True, "momentum": 0.5, "epsilon": 1e-2}),
        ("Adam", {"amsgrad": True}),
    ],
)
def test_files_of_one_load_into_the_other(name, arguments, giver, ending, tmp_path):
    modules = (keras.optimizers, optimizers) if giver == "keras" else (optimizers, keras.optimizers)
    model, other = (network(getattr(module, name)(0.01, name="same", **arguments)) for module in modules)
    fit(model, 2)
    path = tmp_path / f"model.{ending}"
    (model.save_weights if ending == "weights.h5" else model.save)(path)
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path)
    assert [v.path for v in other.optimizer.variables] == [v.path for v in model.optimizer.variables]
    for mine, theirs in zip(arrays(other.optimizer.variables), arrays(model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    trains_as(model, other)


UPGRADES = [
    ("SGD", {"momentum": 0.9}),
    ("RMSprop", {}),
    ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.3}),
    ("Adam", {"learning_rate": lambda: 0.01}),
]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
@pytest.mark.parametrize(("name", "arguments"), UPGRADES)
def test_upgrade_and_downgrade_exchange_the_optimizer_too(name, arguments):
    theirs = getattr(keras.optimizers, name)(**arguments)
    if name == "AdamW":
        theirs.exclude_from_weight_decay(var_names=["bias"])
    model = network(theirs)
    fit(model, 2)
    again = keras_ext.upgrade(model, optimizer=True)
    assert type(again.optimizer).__module__.startswith("keras_ext.")
    assert type(keras_ext.upgrade(model).optimizer) is type(theirs)
    back = keras_ext.downgrade(again, optimizer=True)
    assert type(back.optimizer).__name__ == name.replace("AdamW", "Adam")
    assert not type(back.optimizer).__module__.startswith("keras_ext.")
    untouched = keras_ext.upgrade(model, optimizer=True)
    trains_as(model, again)
    trains_as(untouched, back)
    for mine, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-6)


def test_variables_that_are_excluded_stay_so_in_the_clone():
    model = network(optimizers.SGD(0.1, weight_decay=0.5))
    model.optimizer.exclude_from_weight_decay(var_list=[model.get_layer("first").kernel, model.get_layer("second").bias])
    fit(model, 2)
    for other in (keras_ext.upgrade(model), keras_ext.downgrade(model, optimizer=True)):
        other.optimizer.apply([ops.zeros(w.shape) for w in other.trainable_variables], other.trainable_variables)
        moved = [bool((a != b).any()) for a, b in zip(other.get_weights(), model.get_weights(), strict=True)]
        # The second layer's bias is excluded too; the first one's is not 0 by now.
        assert moved == [False, True, True, False]


def test_upgrade_says_what_it_cannot_exchange():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for function, verb in ((keras_ext.upgrade, "upgrade"), (keras_ext.downgrade, "downgrade")):
        with pytest.raises(ValueError, match=f"`optimizer=True` needs a compiled model. Compile it first, or {verb} the layers alone."):
            function(model, optimizer=True)
    model.compile(keras.optimizers.Lion(), "mse")
    with pytest.raises(TypeError, match="`optimizer` must be SGD, Adagrad, RMSprop, Adam or AdamW of Keras"):
        keras_ext.upgrade(model, optimizer=True)
    model.compile(optimizers.SGD(lazy=True), "mse")
    with pytest.raises(ValueError, match="`optimizer` must be one that does what Keras's can, got 'lazy=True'"):
        keras_ext.downgrade(model, optimizer=True)
    assert type(keras_ext.downgrade(model).optimizer) is optimizers.SGD


@pytest.mark.parametrize("wrong", ["adam", keras.optimizers.Adam])
@pytest.mark.parametrize("convert", [optimizers.from_keras, optimizers.to_keras])
def test_a_name_or_a_class_is_no_optimizer(convert, wrong):
    with pytest.raises(TypeError, match=r"Give an optimizer, such as Adam\(\)\."):
        convert(wrong)


def test_what_there_is_no_other_of_is_reported_by_its_name():
    with pytest.raises(TypeError, match=r"AdamW of Keras, got Lion\. There is no other of ours; keep Keras's\."):
        optimizers.from_keras(keras.optimizers.Lion())


def test_a_rule_of_ones_own_goes_along_both_ways():
    rule = clipping_rules.PercentileClipping(10.0)
    ours = from_keras(optimizers.GradientClipping(keras.optimizers.SGD(0.1), rule=rule))
    theirs = to_keras(ours)
    assert isinstance(ours.inner_optimizer, optimizers.SGD)
    assert isinstance(theirs.inner_optimizer, keras.optimizers.SGD)
    assert ours.rule.get_config() == theirs.rule.get_config() == rule.get_config()
