"""What every public layer, initializer and optimizer owes: its config, copies, training, saving, and the state of Keras's class."""

import copy
import inspect
import json
import pickle

import keras
import numpy as np
import processes
import pytest
from keras import ops

from keras_ext import initializers, layers, optimizers, tables

# Arguments other than the defaults, one set for each public class.
ARGUMENTS = {
    layers: {
        "BatchNormalization": {
            "momentum": 0.8,
            "epsilon": 0.01,
            "gamma_regularizer": "l2",
            "renorm": True,
            "renorm_clipping": {"rmax": 3.0},
        },
        "Dropout": {"rate": 0.25, "noise_shape": [None, 1], "seed": 3},
        "SpatialDropout1D": {"rate": 0.25, "seed": 3},
        "SpatialDropout2D": {"rate": 0.25, "data_format": "channels_first", "seed": 3},
        "SpatialDropout3D": {"rate": 0.25, "data_format": "channels_last", "seed": 3},
    },
    tables: {
        "BalancedAccuracy": {"classes": 3, "name": "balanced"},
        "ClassNames": {"names": ["a", "b", "c", "d", "e"]},
        "PredictionInterval": {"radii": [[0.5, 1.0], [0.9, 2.5]]},
        "TargetMetric": {"metric": "auc", "classes": 2, "name": "roc"},
        "TableFeatures": {
            "columns": [
                *({"name": name, "mean": 0.1, "variance": 2.5} for name in "abcd"),
                {"name": "e", "vocabulary": ["blue", "red"]},
            ]
        },
    },
    initializers: {
        "FanInUniform": {"seed": 1, "gain": "tanh", "kind": "recurrent"},
        "GlorotNormal": {"seed": 1},
        "GlorotUniform": {"seed": 1},
        "HeNormal": {"seed": 1},
        "HeUniform": {"seed": 1},
        "LecunNormal": {"seed": 1, "input_axes": [0], "output_axes": [1]},
        "LecunUniform": {"seed": 1},
        "Orthogonal": {"gain": 0.5, "seed": 1, "delta": True, "kind": "recurrent"},
        "VarianceScaling": {"scale": 0.5, "mode": "fan_out", "distribution": "uniform", "seed": 1},
        "XavierNormal": {"seed": 1},
        "XavierUniform": {"seed": 1},
    },
    optimizers: {
        "Adagrad": {"learning_rate": 0.02, "initial_accumulator_value": 0.2, "weight_decay": 0.01},
        "Adam": {"learning_rate": 0.02, "amsgrad": True, "beta_1": 0.8, "clipnorm": 2.0},
        "GradientClipping": {"optimizer": "rmsprop", "rule": "value", "threshold": 0.5, "name": "clipped"},
        "RMSprop": {"learning_rate": 0.02, "centered": True, "momentum": 0.5, "use_ema": True},
        "SGD": {"learning_rate": 0.02, "momentum": 0.5, "nesterov": True},
    },
}
DROPOUTS = [name for name in ARGUMENTS[layers] if "Dropout" in name]
NEEDED = {name: {"rate": 0.5} for name in DROPOUTS} | {"GradientClipping": {"optimizer": "sgd"}, "ClassNames": {"names": ["a", "b"]}}
NEEDED |= {
    "BalancedAccuracy": {"classes": 2},
    "PredictionInterval": {"radii": [[0.5, 1.0]]},
    "TargetMetric": {"metric": "auc", "classes": 2},
}
WITHOUT_COUNTERPART = (*(ARGUMENTS[tables]), "FanInUniform", "GradientClipping")
EVERY = [(module, name) for module, classes in ARGUMENTS.items() for name in classes]
WITH_COUNTERPART = [(module, name) for module, name in EVERY if name not in WITHOUT_COUNTERPART]

every_class = pytest.mark.parametrize(("module", "name"), EVERY, ids=lambda value: value if isinstance(value, str) else "")
every_drop_in = pytest.mark.parametrize(("module", "name"), WITH_COUNTERPART, ids=lambda value: value if isinstance(value, str) else "")


def make(module, name, full=True):
    return getattr(module, name)(**(ARGUMENTS[module][name] if full else NEEDED.get(name, {})))


def counterpart(module, name):
    theirs = {layers: keras.layers, initializers: keras.initializers, optimizers: keras.optimizers}[module]
    return getattr(theirs, name.replace("Xavier", "Glorot"))


def model_with(thing):
    """A model that holds `thing`, compiled with it if it is an optimizer."""
    is_optimizer = isinstance(thing, keras.optimizers.Optimizer)
    initializer = thing if isinstance(thing, keras.initializers.Initializer) else "glorot_uniform"
    between = [thing] if isinstance(thing, keras.layers.Layer) else []
    if "Spatial" in type(thing).__name__:
        between = [keras.layers.Reshape((1,) * int(type(thing).__name__[-2]) + (5,)), thing, keras.layers.Flatten()]
    inner = [keras.Input((6,)), keras.layers.Dense(5, activation="tanh", kernel_initializer=initializer), *between, keras.layers.Dense(1)]
    return keras.Sequential(inner), thing if is_optimizer else keras.optimizers.SGD(0.01)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 6)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")


def fitted(thing, **arguments):
    model, optimizer = model_with(thing)
    model.compile(optimizer, "mse", **arguments)
    history = model.fit(*data(), batch_size=16, epochs=1, verbose=0).history
    return model, history["loss"][0]


def arrays(variables):
    return [ops.convert_to_numpy(v) for v in variables]


def test_every_public_class_is_tested_here():
    for module, classes in ARGUMENTS.items():
        # Initializers have functions and records too, and tables a record.
        parts = [name for name in module.__all__ if not name.startswith("Initializ") and name[0].isupper() and name != "Table"]
        assert sorted(classes) == sorted(parts)


@every_class
@pytest.mark.parametrize("full", [False, True])
def test_the_config_is_json_and_builds_an_equal_object(module, name, full):
    thing = make(module, name, full)
    config = thing.get_config()
    again = type(thing).from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)
    assert set(inspect.signature(type(thing)).parameters) - {"kwargs"} <= set(config)
    for argument, value in ARGUMENTS[module][name].items() if full else ():
        if isinstance(value, int | float):
            np.testing.assert_allclose(config[argument], value, rtol=1e-6)
        elif isinstance(config[argument], dict) and isinstance(value, str):
            assert config[argument]["class_name"].lower() == value
        else:
            assert json.dumps(config[argument]) == json.dumps(value)


@every_class
def test_keras_saves_and_finds_it_under_the_packages_name(module, name):
    thing = make(module, name)
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    assert saved["registered_name"] == f"keras_ext>{type(thing).__name__}"
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(thing)
    assert json.dumps(again.get_config()) == json.dumps(thing.get_config())


@every_class
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_fresh_object_can_be_copied(module, name, how):
    thing = make(module, name)
    if how == "pickle":
        try:
            theirs = {
                "GradientClipping": keras.optimizers.RMSprop,
                **dict.fromkeys(("BalancedAccuracy", "TargetMetric"), keras.metrics.Mean),
                **dict.fromkeys(("ClassNames", "PredictionInterval", "TableFeatures"), keras.layers.Identity),
            }
            pickle.dumps(theirs[name]() if name in theirs else counterpart(module, name)(**ARGUMENTS[module][name]))
        except Exception as error:
            pytest.skip(f"Keras's own cannot be pickled: {error}")
    again = copy.deepcopy(thing) if how == "deepcopy" else pickle.loads(pickle.dumps(thing))
    assert type(again) is type(thing)
    assert again is not thing
    assert json.dumps(again.get_config()) == json.dumps(thing.get_config())
    if module is initializers:
        np.testing.assert_array_equal(*(ops.convert_to_numpy(each((4, 3))) for each in (thing, again)))
    else:
        assert np.isfinite(fitted(again)[1])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", [*ARGUMENTS[layers], *ARGUMENTS[tables], *ARGUMENTS[optimizers], "all initializers"])
def test_one_epoch_of_fit_is_finite_and_moves_the_weights(name, policy, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    keras.config.set_dtype_policy(policy)
    if name == "all initializers":
        things = [make(initializers, each) for each in ARGUMENTS[initializers]]
        deep = [keras.layers.Dense(6, "tanh", kernel_initializer=each) for each in things]
        model, optimizer = keras.Sequential([keras.Input((6,)), *deep, keras.layers.Dense(1)]), "sgd"
    else:
        module = next(room for room, classes in ARGUMENTS.items() if name in classes)
        model, optimizer = model_with(make(module, name))
    x, y = data()
    before = arrays(model.trainable_weights)
    model.compile(optimizer, "mse", jit_compile=jit)
    losses = model.fit(x, y, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(w).all() for w in arrays(model.weights))
    assert {keras.backend.standardize_dtype(w.dtype) for w in model.trainable_weights} == {"float32"}
    # The automatic loss scale may skip float16's first steps.
    if policy != "mixed_float16":
        assert all((a != b).any() for a, b in zip(before, arrays(model.trainable_weights), strict=True))


LOAD = """
import sys
from pathlib import Path
import keras
import keras_ext
import numpy as np

folder = Path(sys.argv[1])
x = np.load(folder / "x.npy")
for path in sorted(folder.glob("*.keras")):
    model = keras.saving.load_model(path)
    state = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
    np.savez(path.with_suffix(".loaded.npz"), *state, y=model.predict(x, verbose=0))
"""


@pytest.fixture(scope="module")
def loaded_elsewhere(tmp_path_factory):
    """For each class what a fitted model predicts and its optimizer holds, here and in another process that loaded it."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    x, _ = data()
    np.save(folder / "x.npy", x)
    here = {}
    for module, name in EVERY:
        model, _ = fitted(make(module, name))
        model.save(folder / f"{name}.keras")
        # Before predict: on JAX Keras's use_ema gives weights and averages one buffer, which predict takes away.
        state = arrays(model.optimizer.variables)
        here[name] = model.predict(x, verbose=0), state
    done = processes.run("-c", LOAD, folder, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return here, folder


@every_class
def test_a_saved_model_predicts_the_same_in_another_process(module, name, loaded_elsewhere):
    here, folder = loaded_elsewhere
    predictions, state = here[name]
    with np.load(folder / f"{name}.loaded.npz") as loaded:
        np.testing.assert_allclose(loaded["y"], predictions, rtol=1e-6, atol=1e-6)
        assert len(loaded.files) == len(state) + 1
        for i, value in enumerate(state):
            np.testing.assert_array_equal(loaded[f"arr_{i}"], value)


@every_drop_in
def test_arguments_and_defaults_are_those_of_keras(module, name):
    ours, theirs = (inspect.signature(cls.__init__).parameters for cls in (getattr(module, name), counterpart(module, name)))
    # Keras names the base optimizer's arguments one by one.
    for argument, parameter in theirs.items():
        if argument in ours:
            assert parameter.default == ours[argument].default
    named = [a for a in theirs if a in ours]
    assert named == [a for a in ours if a in theirs]
    config = make(module, name, full=False).get_config()
    assert set(counterpart(module, name)(**NEEDED.get(name, {})).get_config()) <= set(config)


def stored(thing):
    store = {}
    thing.save_own_variables(store)
    return {key: np.array(value) for key, value in store.items()}


@pytest.mark.parametrize("name", [name for name in ARGUMENTS[layers] if name not in WITHOUT_COUNTERPART])
def test_weights_go_to_keras_layer_and_back(name):
    ours, theirs = make(layers, name), counterpart(layers, name)(**ARGUMENTS[layers][name])
    x, _ = data()
    if "Spatial" in name:
        x = x.reshape(-1, *(1,) * int(name[-2]), 6)
    for layer in (ours, theirs):
        layer(x, training=True)
    # The rate that a step reads stands behind what Keras's layer has.
    here = ours.variables[:-1] if name in DROPOUTS and keras.backend.backend() != "torch" else ours.variables
    assert [v.path.split("/", 1)[-1] for v in here] == [v.path.split("/", 1)[-1] for v in theirs.variables]
    assert [(v.shape, v.dtype, v.trainable) for v in here] == [(v.shape, v.dtype, v.trainable) for v in theirs.variables]
    rng = np.random.default_rng(0)
    for giver, taker in ((ours, theirs), (theirs, ours)):
        giver.set_weights([rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in giver.get_weights()])
        taker.set_weights(giver.get_weights())
        np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), rtol=1e-5, atol=1e-5)
        taker.load_own_variables(stored(giver))
        for mine, other in zip(arrays(giver.weights), arrays(taker.weights), strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", [name for name in ARGUMENTS[optimizers] if name != "GradientClipping"])
@pytest.mark.parametrize("full", [False, True])
def test_optimizer_state_goes_to_keras_class_and_back(name, full):
    arguments = ARGUMENTS[optimizers][name] if full else {}
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=shape).astype("float32") for shape in ((3, 2), (2,))] for _ in range(4)]

    def start():
        return [keras.Variable(np.ones(g.shape, "float32"), name=f"w{i}") for i, g in enumerate(gradients[0])]

    def steps(optimizer, variables, chosen):
        for g in chosen:
            optimizer.apply([ops.convert_to_tensor(v) for v in g], variables)
        return arrays(variables)

    for giver, taker in ((optimizers, keras.optimizers), (keras.optimizers, optimizers)):
        one, other = getattr(giver, name)(**arguments, name="same"), getattr(taker, name)(**arguments, name="same")
        variables, others = start(), start()
        values = steps(one, variables, gradients[:2])
        other.build(others)
        assert [(v.path, v.shape, v.dtype) for v in one.variables] == [(v.path, v.shape, v.dtype) for v in other.variables]
        store = stored(one)
        assert list(store) == list(stored(other))
        other.load_own_variables(store)
        for variable, value in zip(others, values, strict=True):
            variable.assign(value)
        for mine, wanted in zip(steps(other, others, gradients[2:]), steps(one, variables, gradients[2:]), strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=2e-6)


def test_gradient_clipping_holds_the_state_of_its_inner_optimizer():
    inner = keras.optimizers.Adam()
    clipping = optimizers.GradientClipping(inner)
    clipping.build([keras.Variable([1.0])])
    paths = [v.path for v in clipping.variables]
    assert paths[: len(inner.variables)] == [v.path for v in inner.variables]
    # What it stores besides is its own: the inner optimizer is saved as a part of it.
    assert set(stored(clipping)) == {path.split("/")[-1] for path in paths[len(inner.variables) :]}
