"""Prediction intervals: split conformal, kept in the model's file, and as wide as their level asks."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_ext.automl import Settings, run
from keras_ext.tables import PredictionInterval, conformal_radii
from keras_ext_cli.main import main


def houses(n, seed=0):
    rng = np.random.default_rng(seed)
    sold = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, n), "D")
    size, town = rng.normal(100, 20, n), rng.choice(["Bonn", "Oslo"], n)
    price = 3 * size + 5 * sold.month + 40 * (town == "Oslo") + rng.normal(0, 10, n)
    return pd.DataFrame({"size": size, "sold": sold.strftime("%d.%m.%Y"), "town": town, "price": price})


def test_radii_are_those_of_the_papers():
    residuals = np.random.default_rng(0).normal(size=37)
    found = conformal_radii(residuals)
    for level in (0.5, 0.8, 0.9, 0.95):
        # The smallest distance that at least (n + 1) level of the distances do not exceed, counting the new sample's.
        enough = [d for d in np.abs(residuals) if np.sum(np.abs(residuals) <= d) >= 38 * level]
        assert found[level] == min(enough)
    assert 0.99 not in found
    assert conformal_radii(range(9)) == {0.5: 4.0, 0.8: 7.0, 0.9: 8.0}
    assert conformal_radii([]) == {}


def test_bounds_cover_new_samples_as_often_as_their_level_says():
    rng = np.random.default_rng(0)
    covered = {0.5: [], 0.9: []}
    for _ in range(400):
        radii = conformal_radii(rng.standard_t(3, size=50))
        new = rng.standard_t(3, size=50)
        for level, shares in covered.items():
            lower, upper = PredictionInterval(radii).interval(np.zeros(50), level)
            shares.append(np.mean((lower <= new) & (new <= upper)))
    for level, shares in covered.items():
        # On average at least the level, and at most 1 / (n + 1) more.
        assert level - 0.01 < np.mean(shares) < level + 1 / 51 + 0.01


@pytest.mark.parametrize("radii", [{}, {0.0: 1.0}, {1.0: 1.0}, {0.9: -1.0}, {0.9: float("nan")}, 3, [[0.9]]])
def test_what_are_no_radii_is_refused(radii):
    with pytest.raises(ValueError, match="`radii` must be pairs of a level in"):
        PredictionInterval(radii)


def test_the_model_of_a_search_keeps_the_intervals_of_its_test(tmp_path, capsys):
    data = houses(300)
    data.to_csv(tmp_path / "houses.csv", sep=";", decimal=",", index=False)
    result = run(data, tmp_path / "s", Settings(trials=1, epochs=3, baseline=False), target="price")
    evaluation = result.evaluation
    model = keras.models.load_model(result.model_path)
    assert model.layers[-1].levels == (0.5, 0.8, 0.9, 0.95)
    distances = np.sort(np.abs(evaluation.y - evaluation.predicted))
    lower, upper = model.layers[-1].interval([[10.0]], 0.9)
    # The 55th of 60 distances.
    assert [lower[0], upper[0]] == pytest.approx([10 - distances[54], 10 + distances[54]])
    words = [str(result.model_path), str(tmp_path / "houses.csv")]
    predicted = command(capsys, *words, "--interval", "0.9")
    assert list(predicted) == ["prediction", "lower", "upper"]
    np.testing.assert_allclose(predicted["upper"] - predicted["prediction"], distances[54], rtol=1e-4)
    np.testing.assert_allclose(predicted["prediction"] - predicted["lower"], distances[54], rtol=1e-4)
    encoded = model.layers[1].encode(data)
    np.testing.assert_allclose(predicted["prediction"], model.predict(encoded, verbose=0)[:, 0], rtol=1e-5)
    assert "--interval must be one of 0.5, 0.8, 0.9, 0.95, got 0.7." in command(capsys, *words, "--interval", "0.7")
    # A date that is none ends in one line.
    data.drop(columns="price").assign(sold="soon").to_csv(tmp_path / "new.csv", index=False)
    assert 'column "sold" holds dates, but something else in line 2 ("soon")' in command(capsys, words[0], str(tmp_path / "new.csv"))


def test_models_without_intervals_say_how_to_have_them(tmp_path, capsys):
    data = houses(60)
    data.to_csv(tmp_path / "houses.csv", index=False)
    plain = run(data, tmp_path / "plain", Settings(trials=1, epochs=1, test=0.0, baseline=False), target="price")
    said = command(capsys, str(plain.model_path), str(tmp_path / "houses.csv"), "--interval", "0.9")
    assert "keeps no intervals. Search with samples put aside for a test, --test 0.2, to have them." in said
    classes = run(data, tmp_path / "classes", Settings(trials=1, epochs=1, baseline=False), target="town")
    said = command(capsys, str(classes.model_path), str(tmp_path / "houses.csv"), "--interval", "0.9")
    assert "--interval is for models that predict numbers; this one tells classes apart. Take --probabilities." in said


def command(capsys, *words):
    """Return what `keras-ext predict` prints: predictions as a table, or an error."""
    import sys
    from io import StringIO
    from unittest import mock

    capsys.readouterr()
    with mock.patch.object(sys, "argv", ["keras-ext", "predict", *words]), pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return printed.err if ended.value.code else pd.read_csv(StringIO(printed.out))
