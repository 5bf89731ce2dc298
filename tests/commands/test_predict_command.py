"""`keras-ext predict`: a saved model and a file, a line for each sample."""

import csv
import io
import subprocess
import sys
from functools import partial

import click
import keras
import numpy as np
import pandas as pd
import processes
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_ext import tables
from keras_ext._checks import BadInput
from keras_ext.automl import run
from keras_ext.automl.settings import Settings
from keras_ext.tables import load_csv, load_images, load_npz, make_table
from keras_ext_cli.main import cli

RNG = np.random.default_rng(0)
AGE, TOWN = RNG.normal(40, 10, 60).round(2), RNG.choice(["Bonn", "Oslo"], 60)
KINDS = np.where(AGE > 40, "old", "young")


def write_csv(path, **columns):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def command(*words):
    """Return the rows that are printed, or the mistake."""
    done = CliRunner().invoke(cli, ["predict", *map(str, words)], standalone_mode=False)
    if isinstance(done.exception, (BadInput, click.ClickException)):
        return str(done.exception)
    assert done.exception is None, done.exc_info
    return list(csv.DictReader(io.StringIO(done.output)))


def model_of(folder, *last, loss=None, size=(2,)):
    """Save a model of one layer with known weights."""
    model = keras.Sequential([keras.Input(size), keras.layers.Flatten(), keras.layers.Dense(*last, name="out")])
    if loss:
        model.compile("sgd", loss)
    kernel = model.get_layer("out").kernel
    kernel.assign(np.arange(np.prod(kernel.shape)).reshape(kernel.shape) % 5 / 10)
    model.save(folder / "net.keras")
    return model


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The folder of a search on columns, and a file of three more people with their columns in another order."""
    folder = tmp_path_factory.mktemp("people")
    path = write_csv(folder / "people.csv", age=AGE, town=TOWN, kind=KINDS)
    run(load_csv(path), folder / "out", Settings(trials=1, epochs=2, test=0.0))
    write_csv(folder / "new.csv", town=["Oslo", "Rome", ""], day=["2024-01-01"] * 3, age=[20, 60, 40.5])
    return folder


def test_classes_are_named_and_columns_found_in_a_new_process(people):
    words = ["predict", "out/best_model.keras", "new.csv", "--probabilities", "--output", "there/out.csv"]
    done = subprocess.run([sys.executable, "-m", "keras_ext", *words], cwd=people, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "written: there/out.csv\n")
    assert processes.own_lines(done.stderr) == (
        'new.csv: column "town": 2 of 3 values were not in training, first "Rome" in line 3; the model takes them for unknown.\n'
    )
    rows = list(csv.DictReader((people / "there/out.csv").open()))
    assert list(rows[0]) == ["prediction", "probability", "probability of old", "probability of young"]
    model = keras.models.load_model(people / "out/best_model.keras")
    x = model.layers[1].encode({"age": [20.0, 60.0, 40.5], "town": ["Oslo", "Rome", ""]})
    expected = model.predict(x, verbose=0)
    assert [row["prediction"] for row in rows] == [("old", "young")[i] for i in expected.argmax(axis=1)]
    shares = [[float(row["probability of old"]), float(row["probability of young"])] for row in rows]
    np.testing.assert_allclose(shares, expected, atol=5.1e-5)
    assert [row["probability"] for row in rows] == [f"{max(share):.4f}" for share in shares]


def test_numbers_that_are_missing_count_as_the_mean_and_are_reported_where_none_were_in_training(tmp_path):
    features = tables.TableFeatures()
    features.adapt({"age": [20.0, 60.0], "size": [1.0, None]})
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(features(inputs)))
    model.save(tmp_path / "net.keras")
    new = write_csv(tmp_path / "new.csv", size=["", "2", "NA"], age=["30", "", "null"])
    words = ["predict", str(tmp_path / "net.keras"), str(new), "--output", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert sorted(done.output.splitlines()) == [
        f'{new}: column "age": 2 of 3 numbers are missing, first in line 3, and none were in training; the model takes the mean of '
        "training for them.",
        f"written: {tmp_path / 'out.csv'}",
    ]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    # Normalized: age, size, and whether size is missing.
    (kernel, bias), x = model.layers[-1].get_weights(), np.array([[-0.5, 0, 1], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], (x @ kernel + bias)[:, 0], rtol=1e-5)


@pytest.mark.parametrize("ending", [".csv.gz", ".tsv", ".parquet", ".xlsx"])
def test_every_kind_of_table_gives_the_predictions_of_the_csv_file(people, tmp_path, ending):
    model_of(tmp_path, 1)
    ages = [20, 60, 40.5]
    for model, towns in ((people / "out/best_model.keras", ["Oslo", "Bonn", "Oslo"]), (tmp_path / "net.keras", [1, 2, 3])):
        new = pd.DataFrame({"town": towns, "age": ages})
        new.to_csv(tmp_path / "new.csv", index=False)
        write = {".tsv": partial(new.to_csv, sep="\t"), ".parquet": new.to_parquet, ".xlsx": new.to_excel}.get(ending, new.to_csv)
        write(tmp_path / f"new{ending}", index=False)
        rows = command(model, tmp_path / f"new{ending}")
        assert rows == command(model, tmp_path / "new.csv")
        assert len(rows) == 3


def test_what_a_model_never_saw_is_found_by_its_row(people, tmp_path):
    pd.DataFrame({"town": ["Oslo", "Rome"], "age": [20, None]}).to_parquet(tmp_path / "new.parquet")
    done = CliRunner().invoke(cli, ["predict", str(people / "out/best_model.keras"), str(tmp_path / "new.parquet")], standalone_mode=False)
    assert 'column "town": 1 of 2 values were not in training, first "Rome" in row 2; the model' in done.output
    assert 'column "age": 1 of 2 numbers are missing, first in row 2, and none' in done.output


def test_a_number_is_reported_in_the_unit_of_the_target(tmp_path):
    table = make_table({"age": AGE, "town": TOWN}, 5000 + 100 * AGE, "people")
    run(table, tmp_path / "out", Settings(trials=1, epochs=2, test=0.0))
    rows = command(tmp_path / "out/best_model.keras", write_csv(tmp_path / "new.csv", age=[30, 50], town=["Bonn", "Bonn"]))
    model = keras.models.load_model(tmp_path / "out/best_model.keras")
    expected = model.predict(model.layers[1].encode({"age": [30, 50], "town": ["Bonn", "Bonn"]}), verbose=0)[:, 0]
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-6)
    assert 2000 < expected.mean() < 20000


@pytest.mark.parametrize(
    ("last", "loss", "expected"),
    [
        ((3, "softmax"), "sparse_categorical_crossentropy", lambda p: (str(p.argmax()), p.max())),
        (
            (3,),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            lambda z: (str(z.argmax()), (np.exp(z) / np.exp(z).sum()).max()),
        ),
        ((1, "sigmoid"), "binary_crossentropy", lambda p: ("1", p[0]) if p[0] > 0.5 else ("0", 1 - p[0])),
        ((1,), keras.losses.BinaryCrossentropy(from_logits=True), lambda z: ("1", 1 / (1 + np.exp(-z[0])))),
    ],
    ids=["softmax", "logits", "sigmoid", "one logit"],
)
def test_classes_without_names_are_numbers_and_logits_become_probabilities(tmp_path, last, loss, expected):
    model = model_of(tmp_path, *last, loss=loss)
    x = np.array([[1.0, 2.0], [3.0, 1.0]], "float32")
    np.savez(tmp_path / "x.npz", x=x, y=[0, 1])
    rows = command(tmp_path / "net.keras", tmp_path / "x.npz")
    for row, reported in zip(rows, model.predict(x, verbose=0), strict=True):
        kind, share = expected(reported.astype("float64"))
        assert row["prediction"] == kind
        assert float(row["probability"]) == pytest.approx(share, abs=5.1e-5)


@pytest.mark.parametrize("loss", [None, "mse", "binary_crossentropy"])
def test_other_outputs_are_reported_as_they_are(tmp_path, loss):
    model = model_of(tmp_path, 2, "sigmoid", loss=loss)
    path = write_csv(tmp_path / "x.csv", a=[1.0, 2.0], kind=["p", "q"], b=[0.5, -0.5])
    rows = command(tmp_path / "net.keras", path, "--target", "kind")
    expected = model.predict(np.array([[1.0, 0.5], [2.0, -0.5]]), verbose=0)
    np.testing.assert_allclose([[float(r["prediction_1"]), float(r["prediction_2"])] for r in rows], expected, rtol=1e-6)


def test_images_are_reported_by_their_files(tmp_path):
    for i in range(10):
        path = tmp_path / f"images/{'cats' if i % 2 else 'dogs'}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 6), 250 if i % 2 else 5).save(path)
    run(load_images(tmp_path / "images", (4, 4)), tmp_path / "out", Settings(trials=1, epochs=1, test=0.0))
    model = tmp_path / "out/best_model.keras"
    rows = command(model, tmp_path / "images/cats")
    assert [row["file"] for row in rows] == [str(tmp_path / f"images/cats/{i}.png") for i in (1, 3, 5, 7, 9)]
    (alone,) = command(model, tmp_path / "images/cats/3.png")
    assert alone == rows[1]
    x = np.full((1, 4, 4, 1), 250.0)
    loaded = keras.models.load_model(model)
    assert alone["prediction"] == loaded.layers[-1].decode(loaded.predict(x, verbose=0))[0]


@pytest.mark.slow
def test_a_search_on_shaped_arrays_keeps_their_shape(tmp_path):
    x = RNG.normal(size=(40, 3, 2)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=(x[:, 0, 0] > 0).astype(int))
    run(load_npz(tmp_path / "data.npz"), tmp_path / "out", Settings(trials=1, epochs=1))
    model = keras.models.load_model(tmp_path / "out/best_model.keras")
    assert model.input_shape == (None, 3, 2)
    rows = command(tmp_path / "out/best_model.keras", tmp_path / "data.npz")
    assert [row["prediction"] for row in rows] == list(model.layers[-1].decode(model.predict(x, verbose=0)))


def test_mistakes_end_in_one_line(people, tmp_path, monkeypatch):
    model_of(tmp_path, 1)
    write_csv(tmp_path / "b.csv", age=[1.0], size=[2.0], more=[3.0])
    write_csv(tmp_path / "town.csv", town=["Bonn"])
    write_csv(tmp_path / "gap.csv", age=[1.0, ""], size=[2.0, 3.0])
    np.savez(tmp_path / "text.npz", x=np.array([["a", "b"]]))
    np.savez(tmp_path / "huge.npz", x=np.array([[1.0, 2.0], [np.inf, 1.0]]))
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("age,size\n")
    monkeypatch.chdir(tmp_path)
    best = people / "out/best_model.keras"
    for words, mistake in (
        (("none.keras", "b.csv"), "none.keras: no such file. Give a model saved as .keras."),
        (("net.keras", "none.csv"), "none.csv: no such file."),
        (("net.keras", "b.txt"), "b.txt: is neither .csv nor .npz, nor images. Save the data as one of them."),
        (("net.keras", "b.csv"), "b.csv: a sample has shape (3,), the model takes (2,). Give data as the model was trained on."),
        (("net.keras", "town.csv"), 'town.csv: column "town" holds text ("Bonn" in line 2) where numbers are needed. Remove the column.'),
        (("net.keras", "gap.csv"), 'gap.csv: column "age" has no finite number in line 3 (empty): fill or remove that line.'),
        (("net.keras", "none.png"), "none.png: no such file."),
        (("net.keras", "text.npz"), "text.npz: the inputs are <U1, not numbers. Encode them as numbers first."),
        (("net.keras", "huge.npz"), "net.keras: predicts NaN or infinity, first for sample 2. keras-ext diagnose names the layer."),
        (("net.keras", "a.png"), "a.png: is of images, the model takes (2,). Give data as the model was trained on."),
        (("net.keras", "b.csv", "--target", "more", "--probabilities"), "--probabilities is for models that tell classes apart;"),
        ((best, "town.csv"), 'town.csv: has no column "age", which the model was trained on; found "town". Add it.'),
        ((best, "text.npz"), 'text.npz: is no CSV file, of which the model needs the columns "age", "town". Give one.'),
        (("net.keras", "b.csv", "--target", "more", "--output", "b.csv/out"), "b.csv/out: cannot be written ("),
    ):
        reported = command(*words)
        assert isinstance(reported, str)
        assert reported.startswith(mistake), reported
        assert "\n" not in reported


def test_every_option_has_an_example():
    printed = " ".join(CliRunner().invoke(cli, ["predict", "--help"]).output.split())
    for option in ("target", "probabilities", "output"):
        assert f"Example: --{option} " in printed, option
