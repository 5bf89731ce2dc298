import keras
import numpy as np
import pytest
from keras import ops

import keras_ext
from keras_ext import layers
from keras_ext._backend.keras_private import flatten_layers

KERAS = (
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
OURS = tuple(getattr(layers, cls.__name__) for cls in KERAS)


def count(model, classes):
    return sum(type(layer) in classes for layer in flatten_layers(model))


def at_random(model, seed=0):
    """Give every weight, moving statistics too, values that a trained network could have."""
    rng = np.random.default_rng(seed)
    for layer in flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight, low in ((layer.gamma, 0.5), (layer.beta, -0.5), (layer.moving_mean, -0.5), (layer.moving_variance, 0.5)):
                if weight is not None:
                    weight.assign(rng.uniform(low, low + 1, weight.shape))


def small():
    return keras.Sequential(
        [
            keras.Input((6,), name="features"),
            keras.layers.Dense(5, name="dense"),
            keras.layers.BatchNormalization(name="norm", momentum=0.9),
            keras.layers.Dropout(0.2, seed=1, name="drop"),
            keras.layers.Dense(1, name="out"),
        ]
    )


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(32, 6)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")


def out(model, x):
    return ops.convert_to_numpy(model(x, training=False))


# On JAX compiling it takes half a minute.
FAST = [] if keras.backend.backend() == "jax" else ["MobileNetV2"]
SLOW = [
    *([] if FAST else ["MobileNetV2"]),
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionV3",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "Xception",
]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_an_application_predicts_trains_saves_and_comes_back(name, tmp_path):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras has no NASNet on PyTorch")
    size = 32 if name == "MobileNetV2" else 96
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    at_random(model)
    ours = keras_ext.upgrade(model)
    assert count(model, KERAS) == count(ours, OURS) > 0
    assert count(ours, KERAS) == count(model, OURS) == 0
    assert [layer.name for layer in ours.layers] == [layer.name for layer in model.layers]
    # NASNet's layers were made inside name scopes, which no config holds: the layer's own name and the weight's are kept.
    assert [w.path.split("/")[-2:] for w in ours.weights] == [w.path.split("/")[-2:] for w in model.weights]
    x = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    wanted = out(model, x)
    np.testing.assert_allclose(out(ours, x), wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)
    np.testing.assert_array_equal(out(keras_ext.downgrade(ours), x), wanted)
    ours.compile("sgd", "sparse_categorical_crossentropy")
    before = ops.convert_to_numpy(ours.trainable_weights[0])
    assert np.isfinite(ours.train_on_batch(x, np.array([1, 2])))
    assert (ops.convert_to_numpy(ours.trainable_weights[0]) != before).any()
    ours.save(tmp_path / "ours.keras")
    again = keras.models.load_model(tmp_path / "ours.keras")
    assert count(again, OURS) == count(ours, OURS)
    np.testing.assert_array_equal(out(again, x), out(ours, x))


def test_nested_models_wrappers_shared_layers_and_policies_are_kept():
    inner = keras.Sequential(
        [
            keras.Input((5, 4), name="inside"),
            keras.layers.TimeDistributed(keras.layers.BatchNormalization(name="wrapped"), name="wrapper"),
            keras.layers.SpatialDropout1D(0.2, name="spatial", dtype="mixed_float16"),
        ],
        name="inner",
    )
    shared = keras.layers.Dropout(0.1, name="shared")
    inputs = {"a": keras.Input((5, 4), name="a"), "b": keras.Input((5, 4), name="b")}
    x = shared(inner(inputs["a"])) + shared(inner(inputs["b"]))
    model = keras.Model(inputs, keras.layers.Dense(3, name="end")(x), name="outer")
    at_random(model)
    ours = keras_ext.upgrade(model)
    assert count(ours, KERAS) == 0
    assert count(ours, OURS) == 3
    assert ours.name == "outer"
    assert type(ours.get_layer("inner").get_layer("wrapper").layer) is layers.BatchNormalization
    assert ours.get_layer("inner").get_layer("spatial").dtype_policy.name == "mixed_float16"
    rng = np.random.default_rng(0)
    batch = {name: rng.normal(size=(3, 5, 4)).astype("float32") for name in "ab"}
    np.testing.assert_array_equal(out(ours, batch), out(model, batch))
    np.testing.assert_array_equal(out(keras_ext.downgrade(ours), batch), out(model, batch))


def test_the_model_itself_stays_as_it_was():
    model = small()
    before = [ops.convert_to_numpy(w) for w in model.weights]
    ours = keras_ext.upgrade(model)
    ours.compile("sgd", "mse")
    ours.fit(*data(), verbose=0)
    assert count(model, KERAS) == 2
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)


def squared(y, p):
    return ops.mean(ops.square(y - p))


@pytest.mark.parametrize("loss", ["mse", squared, lambda y, p: ops.mean(ops.square(y - p))], ids=["name", "function", "lambda"])
def test_training_goes_on_where_it_was(loss):
    model = small()
    # A dropout of 0: the masks of the two are not the same.
    model.get_layer("drop").rate = 0.0
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["mae"])
    model.fit(*data(), epochs=3, verbose=0)
    ours = keras_ext.upgrade(model)
    assert int(ours.optimizer.iterations) == 3
    got, wanted = (each.fit(*data(1), epochs=3, shuffle=False, verbose=0).history for each in (ours, model))
    assert sorted(got) == sorted(wanted) == ["loss", "mae"]
    for name in got:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4)
    assert isinstance(keras_ext.downgrade(ours).optimizer, keras.optimizers.Adam)


def test_a_custom_metric_is_found_by_its_name():
    def offset(y, p):
        return ops.mean(y - p)

    model = small()
    model.compile("sgd", "mse", metrics=[offset])
    with pytest.raises(Exception, match="offset"):
        keras_ext.upgrade(model)
    ours = keras_ext.upgrade(model, custom_objects={"offset": offset})
    assert "offset" in ours.evaluate(*data(), return_dict=True, verbose=0)


def test_frozen_layers_stay_frozen():
    model = small()
    model.get_layer("norm").trainable = False
    ours = keras_ext.upgrade(model)
    assert [w.path for w in ours.trainable_weights] == [w.path for w in model.trainable_weights]
    model.trainable = False
    assert keras_ext.upgrade(model).trainable_weights == []


def test_a_thawed_layer_in_a_frozen_network_and_a_frozen_spatial_dropout_stay_so():
    base = keras.Sequential(
        [keras.Input((4, 3)), keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.SpatialDropout1D(0.5)]
    )
    model = keras.Sequential([keras.Input((4, 3)), base, keras.layers.Dense(1)])
    base.trainable = False
    base.layers[0].trainable = True
    wanted = [False, True, False, False, True]
    for each in (model, keras_ext.upgrade(model), keras_ext.downgrade(keras_ext.upgrade(model))):
        inner, last = each.layers
        assert [part.trainable for part in (inner, *inner.layers, last)] == wanted
        assert [w.shape for w in each.trainable_weights] == [w.shape for w in model.trainable_weights]


KINDS = {
    "BatchNormalization": ({"momentum": 0.875}, (4,)),
    "Dropout": ({"rate": 0.25}, (4,)),
    "SpatialDropout1D": ({"rate": 0.25}, (3, 4)),
    "SpatialDropout2D": ({"rate": 0.25, "data_format": "channels_first"}, (4, 2, 3)),
    "SpatialDropout3D": ({"rate": 0.25, "data_format": "channels_first"}, (4, 2, 3, 2)),
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_exchanged_both_ways_alone_and_in_a_wrapper(kind, wrapped):
    arguments, shape = KINDS[kind]
    theirs, ours = getattr(keras.layers, kind), getattr(layers, kind)
    layer = theirs(name="it", **arguments)
    model = keras.Sequential([keras.Input((2, *shape) if wrapped else shape), keras.layers.TimeDistributed(layer) if wrapped else layer])
    mine = keras_ext.upgrade(model)
    for each, cls in ((mine, ours), (keras_ext.downgrade(mine), theirs)):
        (found,) = each.layers
        found = found.layer if wrapped else found
        assert type(found) is cls
        assert found.name == "it"
        assert {name: getattr(found, name) for name in arguments} == arguments


def test_a_wrapped_layer_of_a_class_that_nobody_registered_is_copied():
    class Unregistered(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    both = keras.Sequential([Unregistered(), keras.layers.Dropout(0.5)], name="both")
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.TimeDistributed(both)])
    ours = keras_ext.upgrade(model)
    assert count(ours, OURS) == 1
    np.testing.assert_array_equal(out(ours, np.ones((1, 3, 2), "float32")), np.full((1, 3, 2), 2))


def test_an_optimizer_built_for_other_weights_starts_anew_with_a_warning():
    model = small()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(*data(), verbose=0)
    # Keras's optimizer keeps the slots of the layer that is frozen now.
    model.get_layer("dense").trainable = False
    with pytest.warns(UserWarning, match="The optimizer starts again: other weights are trainable than when it was built"):
        ours = keras_ext.upgrade(model)
    assert int(ours.optimizer.iterations) == 0
    assert ours.optimizer.built
    for mine, theirs in zip(ours.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    ours.fit(*data(), verbose=0)


def test_a_model_that_is_not_built_is_cloned_without_weights():
    model = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    assert not keras_ext.upgrade(model).built
    model(np.zeros((2, 3), "float32"))
    model.layers[0].moving_mean.assign([1.0, 2.0, 3.0])
    ours = keras_ext.upgrade(model)
    np.testing.assert_array_equal(ours.layers[0].moving_mean, [1.0, 2.0, 3.0])


FACTOR = 3.0


def test_a_lambda_layer_keeps_the_names_it_uses():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * FACTOR), keras.layers.Dropout(0.5)])
    np.testing.assert_array_equal(out(keras_ext.upgrade(model), np.ones((1, 2), "float32")), [[3.0, 3.0]])


class Block(keras.layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.norm = keras.layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return self.norm(x, training=training)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.norm = keras.layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(x)


def test_layers_made_by_code_are_refused_with_the_fix():
    Block()  # takes the name that Keras would give the next one
    with pytest.raises(ValueError) as caught:
        keras_ext.upgrade(keras.Sequential([keras.Input((4,)), Block(name="block")]))
    assert str(caught.value) == (
        "Layer 'norm' is made by code inside Block 'block', which a clone repeats. "
        "To upgrade it, exchange keras's BatchNormalization there."
    )


@pytest.mark.parametrize("verb", ["upgrade", "downgrade"])
def test_subclassed_models_and_other_things_are_refused(verb):
    fix = f"To {verb} it, exchange the layers where its code makes them; `load_weights` and `set_weights` take the old weights."
    for thing, what in ((Subclassed(), "Subclassed, a model with a `call` of its own"), (3, "int"), (Block(), "Block")):
        with pytest.raises(ValueError) as caught:
            getattr(keras_ext, verb)(thing)
        assert str(caught.value) == f"`model` must be Sequential or functional, got {what}. {fix}"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.BatchNormalization((1, 2), name="n"), "Layer 'n' has channels on the axes (1, 2), which Keras's cannot. Keep ours."),
        (
            layers.Dropout(0.5, monte_carlo=True, name="n"),
            "Layer 'n' drops at inference (`monte_carlo`), which Keras's cannot. Keep ours, or set monte_carlo=False.",
        ),
    ],
)
def test_what_keras_cannot_do_at_inference_is_not_downgraded(layer, message):
    with pytest.raises(ValueError) as caught:
        keras_ext.downgrade(keras.Sequential([keras.Input((3, 4)), layer]))
    assert str(caught.value) == message


def test_what_only_training_knows_is_left_behind_with_a_warning():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(virtual_batch_size=8, debias=True, name="n")])
    with pytest.warns(UserWarning, match="Layer 'n' trains without virtual_batch_size and debias from here on"):
        theirs = keras_ext.downgrade(model)
    assert type(theirs.layers[0]) is keras.layers.BatchNormalization
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(out(theirs, x), out(model, x))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_spatial_dropout_changes_both_ways_and_frozen_layers_stay_frozen(rank):
    name = f"SpatialDropout{rank}D"
    model = keras.Sequential(
        [
            keras.Input((*(4,) * rank, 3)),
            getattr(keras.layers, name)(0.3, name="spatial"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    for frozen in ("norm", "dense"):
        model.get_layer(frozen).trainable = False
    ours = keras_ext.upgrade(model)
    back = keras_ext.downgrade(ours)
    assert type(ours.get_layer("spatial")) is getattr(keras_ext.layers, name)
    assert type(back.get_layer("spatial")) is getattr(keras.layers, name)
    for changed in (ours, back):
        assert changed.get_layer("spatial").rate == 0.3
        assert [changed.get_layer(frozen).trainable for frozen in ("norm", "dense")] == [False, False]
        assert changed.trainable_weights == []
