"""The kinds of networks that a search is over: which for which data, and whole searches of each, from the data to the saved model."""

import json

import keras
import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_ext._checks import BadInput
from keras_ext.automl import Settings, run
from keras_ext.automl.networks import moments_of, network_of, space_of
from keras_ext.automl.preparation import Preparation
from keras_ext.tables import load_images, load_npz, make_table

slow_but_on_torch = () if keras.backend.backend() == "torch" else pytest.mark.slow


@pytest.mark.parametrize(
    ("network", "shape", "more", "expected"),
    [
        ("auto", (64,), {}, "mlp"),
        ("auto", (64,), {"max_layers": 6}, "mlp"),
        ("auto", (64,), {"max_layers": 7}, "residual"),
        ("auto", (64,), {"max_layers": 7, "widths": "free"}, "mlp"),
        ("auto", (28, 28, 1), {}, "images"),
        ("auto", (28, 28, 3), {"max_layers": 3}, "images"),
        ("auto", (28, 28, 5), {}, "mlp"),
        ("auto", (1, 28, 3), {}, "mlp"),
        ("auto", (20, 3), {}, "lstm"),
        ("auto", (3, 4, 5, 6), {}, "mlp"),
        ("residual", (64,), {}, "residual"),
        ("mlp", (28, 28, 3), {}, "mlp"),
        ("cnn", (28, 28), {}, "cnn"),
        ("resnet", (28, 28, 1), {}, "resnet"),
        ("lstm", (28, 28), {}, "lstm"),
    ],
)
def test_the_shape_of_the_samples_decides(network, shape, more, expected):
    assert network_of(network, shape, **more) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cnn", (64,)), "`network` cnn needs samples of height and width, and channels if any, got 64. Take mlp."),
        (("cnn", (1, 8)), "`network` cnn needs samples of height and width, and channels if any, got 1 x 8. Take mlp."),
        (("resnet", (2, 3, 4, 5)), "`network` resnet needs samples of height and width, and channels if any, got 2 x 3 x 4 x 5. Take mlp."),
        (("lstm", (64,)), "`network` lstm needs samples of time and features, got 64. Take mlp."),
        (("residual", (4,), 2), "`max_layers` must be at least 3 with `network` residual, got 2. Take another one."),
        (("residual", (4,), None, "free"), "`widths` free goes with `network` mlp, got residual. Leave it out."),
    ],
)
def test_what_does_not_go_together_is_reported(arguments, message):
    with pytest.raises(BadInput) as raised:
        network_of(*arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("network", "shape"),
    [("mlp", (4,)), ("residual", (4,)), ("lstm", (3, 2)), ("cnn", (16, 16)), ("resnet", (16, 16)), ("images", (16, 16))],
)
@pytest.mark.parametrize("most", [3, 5, 9])
def test_no_network_is_deeper_than_was_asked_for(network, shape, most):
    space = space_of(network, shape, most)
    hp = keras_tuner.HyperParameters()
    space.build(hp)
    for h in hp.space:
        if h.name.startswith(("layers", "blocks", "stages")):
            hp.values[h.name] = max(h.values)
    kinds = [type(layer).__name__ for layer in space.build(hp).layers if not layer.name.endswith("projection")]
    assert 1 <= sum(kind in ("Dense", "Conv2D", "LSTM") for kind in kinds) - 1 <= most


def test_the_moments_are_those_of_a_channel_or_a_feature():
    x = np.random.default_rng(0).normal(size=(50, 4, 3, 2)) * [1, 5] + [7, 0]
    mean, variance = x.mean(axis=0), x.var(axis=0)
    for network in ("cnn", "resnet", "images"):
        found = moments_of(network, mean, variance)
        np.testing.assert_allclose(found, [x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))])
        np.testing.assert_allclose(moments_of(network, mean[..., 0], variance[..., 0]), [x[..., 0].mean(), x[..., 0].var()])
    np.testing.assert_allclose(moments_of("lstm", mean[0], variance[0]), [x[:, 0].mean(axis=(0, 1)), x[:, 0].var(axis=(0, 1))])
    assert moments_of("mlp", mean, variance) == (mean, variance)


def images(n=60):
    """Images with a bright half, on the left or on the right: no single pixel's channel mean says which."""
    rng = np.random.default_rng(0)
    y, x = rng.integers(0, 2, n), rng.normal(100, 10, size=(n, 6, 6, 1))
    x[y == 0, :, :3] += 80
    x[y == 1, :, 3:] += 80
    return x.clip(0, 255).astype("float32"), np.where(y, "right", "left")


def series(n=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5, 2)).astype("float32")
    return x, np.where(x[:, -1].sum(axis=1) > 0, "up", "down")


def flat(n=60):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("float32")
    return x, x.sum(axis=1) * 5 + 100


DATA = {
    "cnn": (images, {"batch_sizes": (8,)}),
    "resnet": (images, {"batch_sizes": (8,), "max_layers": 3}),
    "lstm": (series, {"batch_sizes": (8,), "max_layers": 1}),
    "residual": (flat, {"batch_sizes": (8,), "max_layers": 7}),
    "mlp": (flat, {"batch_sizes": (8,), "max_layers": 8, "widths": "pyramid", "wide": True}),
}


@pytest.mark.parametrize(
    "network", ["lstm", *(pytest.param(name, marks=slow_but_on_torch) for name in ("cnn", "resnet", "residual", "mlp"))]
)
def test_a_search_of_each_network_goes_on_and_its_model_has_the_score(tmp_path, network):
    make, more = DATA[network]
    table = make_table(*make(), "made")
    first = run(table, tmp_path / "s", Settings(trials=1, epochs=2, network=network, **more))
    kept = Settings(trials=2, epochs=2, network=network, **more)
    result = run(table, tmp_path / "s", kept, resume=True)
    whole = run(table, tmp_path / "whole", kept)
    assert [(r.score, r.hyperparameters) for r in result.results] == [(r.score, r.hyperparameters) for r in whole.results]
    assert len(first.results) == 1
    split = table.split(kept.validation, kept.seed, kept.test)
    model = keras.models.load_model(result.model_path)
    _, score = model.evaluate(split.x_validation, split.y_validation, verbose=0)
    assert score == pytest.approx(result.results[0].score, abs=1e-5)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {"cnn": {"MaxPooling2D"}, "resnet": {"Conv2D", "Add"}, "lstm": set(), "residual": {"Add"}, "mlp": {"Dense"}}[network] <= kinds
    assert json.loads((tmp_path / "s/results.json").read_text())["network"] == {"residual": "residual_mlp"}.get(network, network)
    again = run(table, tmp_path / "s", Settings(trials=2, epochs=2, network=network, refit=True, **more), resume=True)
    assert again.trained_again == 48
    assert np.isfinite(keras.models.load_model(again.model_path).predict(split.x_test, verbose=0)).all()


@pytest.mark.parametrize("network", ["lstm", pytest.param("cnn", marks=slow_but_on_torch)])
def test_a_network_is_normalized_by_feature_or_channel(network):
    x, y = {"lstm": series, "cnn": images}[network]()
    x = x * 3 + 5
    prepared = Preparation.of(x, np.unique(y, return_inverse=True)[1], ("a", "b"))
    model = prepared.space(60, (8,), network).build(keras_tuner.HyperParameters())
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    found = keras.ops.convert_to_numpy(layer(x))
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(found.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=axes), 1, atol=1e-5)


@pytest.mark.parametrize("network", [pytest.param("auto", marks=slow_but_on_torch)])
def test_a_folder_of_images_is_searched_by_convolutions(tmp_path, network):
    x, y = images(40)
    for i, (image, name) in enumerate(zip(x, y, strict=True)):
        (tmp_path / f"pictures/{name}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0].astype("uint8")).save(tmp_path / f"pictures/{name}/{i}.png")
    table = load_images(tmp_path / "pictures", (6, 6))
    settings = Settings(trials=3, epochs=2, network=network, batch_sizes=(8,), max_layers=3)
    result = run(table, tmp_path / "s", settings)
    assert {record.hyperparameters["network"] for record in result.results} == {"cnn", "resnet"}
    model = keras.models.load_model(result.model_path)
    assert any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    assert model.layers[-1].decode(model.predict(table.x, verbose=0)).shape == (40,)


def test_arrays_of_time_and_features_are_searched_by_lstms(tmp_path):
    x, y = series()
    np.savez(tmp_path / "series.npz", x=x, y=y)
    result = run(load_npz(tmp_path / "series.npz"), tmp_path / "s", Settings(trials=1, epochs=1, batch_sizes=(16,)))
    assert any(isinstance(layer, keras.layers.LSTM) for layer in keras.models.load_model(result.model_path).layers)


def test_patience_ends_a_trial_that_gets_no_better(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype("float32")
    y = np.where(rng.random(60) < 0.3, x[:, 0] <= 0, x[:, 0] > 0)  # all that can be learnt is soon learnt, and that is not all
    table = make_table(x, y.astype("int32"), "signs")
    result = run(table, tmp_path / "s", Settings(trials=2, epochs=40, patience=2, batch_sizes=(16,)))
    for record in result.results:
        best = int(np.argmax(record.scores))
        assert record.epochs == min(40, best + 3)
        assert record.epochs < 40
    longer = run(table, tmp_path / "longer", Settings(trials=1, epochs=40, batch_sizes=(16,)))
    assert longer.results[0].epochs == 40


def test_a_perfect_score_ends_a_trial(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    table = make_table(x, (x[:, 0] > 0).astype("int32"), "signs")
    result = run(table, tmp_path / "s", Settings(trials=3, epochs=40, batch_sizes=(16,), pruner="none"))
    perfect = [record for record in result.results if record.score == 1.0]
    assert perfect
    for record in result.results:
        assert 1.0 not in record.scores[:-1]
    assert {record.ended for record in perfect if record.epochs < 40} == {"val_accuracy reached 1"}


def test_what_a_network_cannot_take_is_reported_before_anything_is_written(tmp_path):
    table = make_table(*flat(), "made")
    for settings, message in (
        (Settings(network="lstm"), "`network` lstm needs samples of time and features, got 4. Take mlp."),
        (Settings(tuner="grid", values={"depth": [1]}), "`values` must be values of some of the hyperparameters batch_size, "),
        (
            Settings(tuner="grid", widths="free", max_layers=20, values={f"units_{i}": [32, 64] for i in range(2, 21)}),
            "the grid has ",
        ),
    ):
        with pytest.raises(BadInput) as raised:
            run(table, tmp_path / "s", settings)
        assert str(raised.value).startswith(message)
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "transformer"}, "`network` must be one of 'auto', 'mlp', 'residual', 'cnn', 'resnet', 'lstm', got 'transformer'."),
        ({"max_layers": 0}, "`max_layers` must be a whole number of at least 1, got 0."),
        ({"widths": "narrow"}, "`widths` must be one of 'same', 'pyramid', 'free', got 'narrow'."),
        ({"wide": 1}, "`wide` must be True or False, got 1."),
        ({"patience": 0}, "`patience` must be a whole number of at least 1, got 0."),
        ({"values": {"layers": [1]}}, "`values` must be left out with the tuner 'tpe', got {'layers': [1]}. Only 'grid' fixes values."),
        (
            {"tuner": "grid", "values": {"layers": 1}},
            "`values` must be a dict of names of hyperparameters and lists of their values, got {'layers': 1}.",
        ),
    ],
)
def test_bad_settings_are_reported(arguments, message):
    with pytest.raises(ValueError) as raised:
        Settings(**arguments)
    assert str(raised.value) == message
