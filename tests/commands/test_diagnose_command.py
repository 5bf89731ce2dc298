"""`keras-ext diagnose`: a saved model and a file of data, from one line."""

import csv
import json

import click
import keras
import numpy as np
import processes
import pytest
from click.testing import CliRunner

from keras_ext import tables
from keras_ext._checks import BadInput
from keras_ext.automl import run
from keras_ext.automl.preparation import UNIT
from keras_ext.automl.settings import Settings
from keras_ext.commands import model_file
from keras_ext.commands.diagnose import _with_end_of
from keras_ext.commands.model_file import as_trained
from keras_ext.tables import load_csv, load_npz
from keras_ext_cli.main import cli

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).round(3)
KINDS = np.array(["ash", "elm", "oak"])[np.digitize(X[:, 0] + X[:, 1], (-0.7, 0.7))]


def write_csv(path, header, *columns):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *zip(*columns, strict=True)])
    return path


def save(path, *layers, loss=None, size=4, unhealthy=1.0):
    """Save a small model whose hidden kernel is multiplied by `unhealthy`."""
    model = keras.Sequential([keras.Input((size,) if isinstance(size, int) else size), *layers], name="net")
    if loss:
        model.compile("sgd", loss)
    hidden = model.get_layer("hidden")
    hidden.kernel.assign(unhealthy * np.asarray(keras.ops.convert_to_numpy(hidden.kernel)))
    model.save(path)
    return path


def hidden(activation="sigmoid"):
    return keras.layers.Dense(8, activation, name="hidden")


def command(*words):
    """Return the exit code and what is printed, or the mistake."""
    done = CliRunner().invoke(cli, ["diagnose", *map(str, words)], standalone_mode=False)
    if isinstance(done.exception, (BadInput, click.ClickException)):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def in_new_process(*words, cwd):
    return processes.run("-m", "keras_ext", "diagnose", *words, cwd=cwd)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The folder of a search for three kinds, whose data lies beside it."""
    folder = tmp_path_factory.mktemp("trees")
    path = write_csv(folder / "trees.csv", ["kind", "a", "b", "c", "d"], KINDS, *X.T)
    source = {"data_path": str(path), "target": "kind", "task": None}
    result = run(load_csv(path, "kind"), folder / "out", Settings(trials=1, epochs=1), source=source)
    assert result.model_path is not None
    return folder


def test_the_model_of_a_search_is_diagnosed_by_its_path_alone(trees):
    done = in_new_process("out/best_model.keras", "--report", "new/page.html", "--json", "out.json", cwd=trees)
    assert (done.returncode, processes.own_lines(done.stderr)) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("out/best_model.keras on trees.csv, keras 3.")
    assert lines[1].startswith("mlp, 90 samples, loss ")
    assert [line.split()[0] for line in lines if line.strip().startswith(("hidden_1", "output"))] == ["hidden_1", "output"]
    assert lines[-2:] == ["written: new/page.html", "written: out.json"]
    assert "<h1>mlp, as it stands</h1>" in (trees / "new/page.html").read_text()
    content = json.loads((trees / "out.json").read_text())
    assert content["header"] == {"model": "mlp", "samples": 90}
    assert content["snapshots"][0]["step"] > 0


def test_a_critical_finding_is_exit_code_1(tmp_path):
    save(tmp_path / "net.keras", hidden(), keras.layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy", unhealthy=np.nan)
    write_csv(tmp_path / "trees.csv", ["a", "b", "c", "d", "kind"], *X.T, KINDS)
    done = in_new_process("net.keras", "--data", "trees.csv", cwd=tmp_path)
    assert (done.returncode, processes.own_lines(done.stderr)) == (1, "")
    assert 'critical: non finite in layer "hidden"' in done.stdout


def test_options_reach_the_snapshot(tmp_path):
    path = save(tmp_path / "net.keras", hidden(), keras.layers.Dense(1, name="out"), loss="mse", unhealthy=30.0)
    data = write_csv(tmp_path / "sizes.csv", ["size", "a", "b", "c", "d"], X[:, 0], *X.T)
    code, printed = command(path, "--data", data, "--target", "size", "--probe-size", 32, "--layers", "hidden")
    assert code == 0
    assert "net, 32 samples, loss " in printed
    assert "warning: saturated" in printed
    assert not [line for line in printed.splitlines() if line.strip().startswith("out ")]


def test_a_model_that_was_saved_without_a_loss_is_looked_at_all_the_same(tmp_path):
    path = save(tmp_path / "net.keras", hidden(), keras.layers.Dense(7), unhealthy=30.0)
    code, printed = command(path, "--data", write_csv(tmp_path / "trees.csv", ["a", "b", "c", "d", "kind"], *X.T, KINDS))
    assert code == 0
    assert "warning: saturated" in printed
    assert "It is not compiled with a loss" in printed


def test_numbers_to_predict_are_looked_at_in_the_unit_that_the_search_trained_in(tmp_path):
    path = write_csv(tmp_path / "houses.csv", ["a", "b", "c", "d", "price"], *X.T, 1e6 + 1e5 * X[:, 0])
    run(load_csv(path), tmp_path / "out", Settings(trials=1, epochs=1))
    code, printed = command(tmp_path / "out/best_model.keras", "--data", path)
    assert code == 0
    assert "unscaled target" not in printed
    assert "exploding gradient" not in printed
    loss = float(printed.split(", loss ")[1].split(":")[0])
    assert loss < 20
    y = 1e6 + 1e5 * X[:, 0]
    unit = float(printed.split("divided by ")[1].split()[0])
    assert 0.8 * y.std() < unit < 1.2 * y.std()  # of the samples of training
    # From the model's own predictions of the columns as it takes them; the printed loss has three digits.
    model = model_file.load(tmp_path / "out/best_model.keras")
    predicted = model.predict(model_file.features_of(model).encode(dict(zip("abcd", X.T, strict=True))), verbose=0)[:, 0]
    error = float(printed.split("root mean square error ")[1].split()[0])
    assert error == pytest.approx(np.sqrt(np.mean((predicted - y) ** 2)), rel=1e-4)
    assert error == pytest.approx(unit * np.sqrt(loss), rel=0.01)


def test_classes_have_the_numbers_that_the_search_gave_them(trees, tmp_path):
    some = KINDS != "ash"
    path = write_csv(tmp_path / "some.csv", ["a", "b", "c", "d", "kind"], *X[some].T, KINDS[some])
    found = trees / "out/best_model.keras"
    _, y = model_file.samples(load_csv(path), model_file.load(found))
    assert y is not None
    np.testing.assert_array_equal(y, np.where(KINDS[some] == "elm", 1, 2))
    other = write_csv(tmp_path / "other.csv", ["a", "b", "c", "d", "kind"], *X[some].T, np.where(KINDS[some] == "elm", "fir", "oak"))
    code, mistake = command(found, "--data", other)
    assert (code, mistake) == (2, "other.csv: class fir is none of those that the model was trained on: ash, elm, oak.")


@pytest.mark.parametrize(
    ("units", "loss", "labels", "expected"),
    [
        (4, "sparse_categorical_crossentropy", [1.0, 3.0], [1, 3]),
        (2, "sparse_categorical_crossentropy", [1.0, 3.0], [0, 1]),
        (2, "sparse_categorical_crossentropy", ["b", "a"], [1, 0]),
        (2, "sparse_categorical_crossentropy", [1.5, 2.5], [0, 1]),
        (3, "categorical_crossentropy", [0.0, 2.0], [[1, 0, 0], [0, 0, 1]]),
        (1, "binary_crossentropy", ["no", "yes"], [[0], [1]]),
        (1, "mean_squared_error", [0.5, 7.25], [[0.5], [7.25]]),
        (1, "mean_squared_error", [3, 5], [[3], [5]]),
        (1, "binary_crossentropy", [0.25, 0.5], [[0.25], [0.5]]),
    ],
)
def test_targets_become_what_the_loss_takes(tmp_path, units, loss, labels, expected):
    path = save(tmp_path / "net.keras", hidden(), keras.layers.Dense(units), loss=loss)
    data = write_csv(tmp_path / "data.csv", ["a", "b", "c", "d", "y"], *X[:10].T, labels * 5)
    model = model_file.load(path)
    table = load_csv(data, None, model_file.task_of(model))
    _, y = model_file.samples(table, model)
    np.testing.assert_array_equal(y, expected * 5)


def test_arrays_of_an_npz_file_keep_their_shape_or_take_the_models(tmp_path):
    images = RNG.normal(size=(20, 4, 2, 1)).astype("float32")
    np.savez(tmp_path / "images.npz", x=images, y=np.arange(20) % 2)
    np.savez(tmp_path / "rows.npz", x=images.reshape(20, 8), y=np.arange(20) % 2)
    taken = {
        shape: model_file.load(save(tmp_path / f"{i}.keras", keras.layers.Flatten(), hidden(), keras.layers.Dense(2), size=shape))
        for i, shape in enumerate([(4, 2, 1), (8,), (2, 4, 1)])
    }

    def samples(file, shape):
        return model_file.samples(load_npz(tmp_path / file), taken[shape])[0]

    np.testing.assert_array_equal(samples("images.npz", (4, 2, 1)), images)
    np.testing.assert_array_equal(samples("rows.npz", (4, 2, 1)), images)
    np.testing.assert_array_equal(samples("images.npz", (8,)), images.reshape(20, 8))
    with pytest.raises(BadInput) as raised:
        samples("images.npz", (2, 4, 1))
    assert str(raised.value) == (
        "images.npz: a sample has shape (4, 2, 1), the model takes (2, 4, 1). Give data as the model was trained on."
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save(folder / "net.keras", hidden(), keras.layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy")
    write_csv(folder / "good.csv", ["a", "b", "c", "d", "kind"], *X.T, KINDS)
    write_csv(folder / "narrow.csv", ["a", "b", "c", "kind"], *X[:, :3].T, KINDS)
    write_csv(folder / "numbers.csv", ["a", "b", "c", "d", "size"], *X.T, X[:, 0])
    write_csv(folder / "two.csv", ["a", "b", "c", "d", "kind"], *X.T, np.where(KINDS == "ash", "ash", "oak"))
    save(folder / "wide.keras", hidden(), keras.layers.Dense(2), loss="mse")
    (folder / "broken.keras").write_text("")
    (folder / "net.h5").write_text("")
    (folder / "taken").write_text("a file")
    inputs = [keras.Input((4,)), keras.Input((4,))]
    keras.Model(inputs, keras.layers.add(inputs)).save(folder / "two.keras")
    return folder


MISTAKES = {
    "no.keras": "no.keras: no such file. Give a model saved as .keras.",
    "net.h5 --data good.csv": "net.h5: is no .keras file. Save the model with model.save('model.keras').",
    "net.keras": "--data is needed: the file of inputs and targets. It can be left out for a model in the folder of a search.",
    "net.keras --data no.csv": "no.csv: no such file. Check the path.",
    "net.keras --data good.csv --target size": 'good.csv: no column "size". Name one of "a", "b", "c", "d", "kind" with --target.',
    "net.keras --data narrow.csv": "narrow.csv: a sample has shape (3,), the model takes (4,). Give data as the model was trained on.",
    "net.keras --data two.csv": "two.csv: has 2 classes, the model 3. Give their numbers from 0, or a file with all of them.",
    "net.keras --data good.csv --probe-size 0": "--probe-size must be a whole number of at least 1, got 0.",
    "net.keras --data good.csv --layers h9": "--layers must name layers of the model, got 'h9'. It has hidden, ",
    "net.keras --data good.csv --json taken/a": "taken/a: cannot be written (",
    "wide.keras --data numbers.csv": "numbers.csv: has one number to predict a sample, the model predicts 2. Name another --target.",
    "two.keras --data good.csv": "two.keras: needs one array of inputs and one of outputs, known without data. For another model call ",
    "broken.keras --data good.csv": "broken.keras: cannot be loaded (",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_ends_in_one_line(files, words, monkeypatch):
    monkeypatch.chdir(files)
    code, mistake = command(*words.split())
    assert code == 2
    assert mistake.startswith(MISTAKES[words])
    assert "\n" not in mistake


def test_help_has_an_example_for_each_option():
    printed = " ".join(CliRunner().invoke(cli, ["diagnose", "--help"]).output.split())
    for option in ("data", "target", "layers", "probe-size", "report", "json"):
        assert f"Example: --{option} " in printed, option


def test_a_repaired_model_is_written_with_its_changes(tmp_path):
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    data = write_csv(tmp_path / "trees.csv", ["a", "b", "c", "d", "kind"], *X.T, y)
    end = keras.layers.Dense(1, "softmax", name="end")
    path = save(tmp_path / "net.keras", hidden("relu"), end, loss="binary_crossentropy")
    better, numbers = tmp_path / "better.keras", tmp_path / "out.json"
    code, printed = command(path, "--data", data, "--target", "kind", "--repair", better, "--json", numbers)
    assert code == 0
    assert 'fit_output: End "end" with sigmoid in place of softmax.' in printed
    assert keras.models.load_model(better).get_layer("end").activation.__name__ == "sigmoid"
    assert keras.models.load_model(path).get_layer("end").activation.__name__ == "softmax"
    (first, *_) = json.loads(numbers.read_text())["header"]["repair"]["changes"]
    assert (first["remedy"], first["symptom"]) == ("fit_output", "output_mismatch")


def test_a_model_that_cannot_be_repaired_is_reported(tmp_path):
    data = write_csv(tmp_path / "trees.csv", ["a", "b", "c", "d", "kind"], *X.T, KINDS)
    path = save(tmp_path / "net.keras", hidden(), keras.layers.Dense(3, "softmax"))
    code, printed = command(path, "--data", data, "--repair", tmp_path / "better.keras")
    assert (code, "--repair needs a model that was compiled" in printed) == (2, True)
    code, printed = command(path, "--data", data, "--repair", tmp_path / "better.h5")
    assert (code, printed.endswith("Write --repair better.keras.")) == (2, True)


def test_a_repaired_model_keeps_the_layer_that_brings_the_unit_back_and_no_intervals_of_another_model():
    inputs = keras.Input((2,))
    inner = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(4, "relu")(inputs)))
    unit = keras.layers.Rescaling(50.0, 1000.0, name=UNIT)
    whole = keras.Model(inner.inputs, tables.PredictionInterval({0.9: 2.0})(unit(inner.output)))
    whole.compile("adam", "mean_squared_error")
    trained, y = as_trained(whole, np.array([1000.0, 1100.0]))
    assert y.tolist() == [0.0, 2.0]
    ended = _with_end_of(whole, trained, trained)
    x = np.ones((3, 2), "float32")
    np.testing.assert_allclose(ended.predict(x, verbose=0), 50 * inner.predict(x, verbose=0) + 1000, rtol=1e-6)
    assert ended.layers[-1].name == UNIT
