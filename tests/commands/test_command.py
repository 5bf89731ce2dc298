"""The command, in processes of its own."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import processes
import pytest

from keras_ext.automl.networks import NETWORKS
from keras_ext.automl.settings import Settings, complete
from keras_ext.automl.tuners import TUNERS
from keras_ext.parallel.placement import TRIALS_OF_A_PROCESS, Placement
from keras_ext.search.choices import ACTIVATIONS, WIDTHS
from keras_ext.search.grow import EARLIER, NEW
from keras_ext.search.spaces.mlp import DEEP
from keras_ext.search.tuners.pruning import PRUNERS
from keras_ext.tables import load_digits
from keras_ext_cli import options
from keras_ext_cli.main import main
from keras_ext_cli.search import search

COMMAND = Path(sys.executable).with_name("keras-ext.exe" if os.name == "nt" else "keras-ext")


def installed(*words, cwd):
    """Run the command as it is installed, which starts Python."""
    return subprocess.run([str(COMMAND), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300)


def keras_ext(*words, cwd):
    return processes.run("-m", "keras_ext", *words, cwd=cwd)


def python(code, cwd):
    done = processes.run("-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small search on the digits, as a user would start it."""
    folder = tmp_path_factory.mktemp("digits")
    done = keras_ext("search", "--trials", 2, "--epochs", 2, "--output", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    shutil.copy(folder / "out/results.json", folder / "two.json")  # another test goes on with the search
    return folder, done


def test_a_search_shows_its_trials_and_ends_with_a_leaderboard(digits):
    _, done = digits
    lines = done.stdout.splitlines()
    assert lines[0] == "digits: 1797 samples, 64 inputs, 10 classes (classification)"
    assert lines[1].startswith("keras 3.")
    assert lines[2].startswith("trial 1 of 2: val_accuracy 0.")
    assert lines[3].startswith("trial 2 of 2: val_accuracy 0.")
    assert "activation" in lines[2]
    assert "nothing found" in lines[2] or "warning" in lines[2] or "critical" in lines[2]
    assert "Leaderboard" in done.stdout
    assert "saved as out/best_model.keras" in done.stdout
    assert processes.own_lines(done.stderr) == ""


def test_the_results_lie_in_the_output_folder(digits):
    folder, _ = digits
    out = folder / "out"
    reported = json.loads((out / "results.json").read_text())
    rows = list(csv.DictReader((out / "leaderboard.csv").open()))
    assert [float(row["score"]) for row in rows] == [t["score"] for t in reported["trials"]]
    assert {row["number"] for row in rows} == {"1", "2"}
    assert reported["settings"]["trials"] == 2
    for trial in reported["trials"]:
        diagnosis = json.loads((out / f"trials/trial_{trial['trial']}/diagnosis.json").read_text())
        assert diagnosis["epochs"] == trial["epochs"]


def test_the_model_loads_in_a_new_process_that_imports_the_package_alone(digits):
    folder, _ = digits
    split = load_digits().split(0.2, 0, 0.2)
    np.savez(folder / "validation.npz", x=split.x_validation, y=split.y_validation)
    code = (
        "import numpy as np, keras, keras_ext; d = np.load('validation.npz'); m = keras.models.load_model('out/best_model.keras'); "
        "print(float(np.mean(m.predict(d['x'], verbose=0).argmax(1) == d['y'])))"
    )
    score = json.loads((folder / "out/results.json").read_text())["trials"][0]["score"]
    assert float(python(code, folder)) == pytest.approx(score, abs=1e-6)


def test_a_search_is_resumed_from_its_folder_alone_and_can_be_made_longer(digits):
    folder, _ = digits
    before = json.loads((folder / "out/results.json").read_text())["trials"]
    done = keras_ext("search", "--output", "out", "--resume", "--trials", 3, cwd=folder)
    assert done.returncode == 0, done.stderr
    after = json.loads((folder / "out/results.json").read_text())["trials"]
    assert len(after) == 3
    assert [t for t in after if t["number"] < 3] == before
    assert "trial 3 of 3" in done.stdout
    assert "trial 2 of 3" not in done.stdout


@pytest.mark.backend_free
def test_a_search_killed_in_mid_trial_goes_on(tmp_path):
    words = [str(COMMAND), "search", "--trials", "3", "--epochs", "4", "--output", "out"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("trial 1 of 3"):
            break
    # into the middle of the second trial
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/trials/trial_1").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = keras_ext("search", "--output", "out", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = json.loads((tmp_path / "out/results.json").read_text())["trials"]
    assert sorted(t["number"] for t in trials) == [1, 2, 3]
    assert all(t["score"] is not None for t in trials)


def test_ctrl_c_says_how_to_go_on(tmp_path):
    words = [str(COMMAND), "search", "--trials", "50", "--output", "out"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/trials/trial_*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; go on with: keras-ext search --output out --resume" in out
    assert "Traceback" not in err


def asked(monkeypatch, *words):
    """Return the settings with which the command would search, which it does not."""
    asked = []

    def run(table, folder, settings, **options):
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_ext.commands.search.run", run)
    monkeypatch.setattr(sys, "argv", ["keras-ext", "search", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    return asked[0]


def test_what_a_search_began_with_stays_unless_it_is_given_again(tmp_path, monkeypatch):
    kept = Settings(tuner="grid", trials=7, epochs=3, seed=4, validation=0.3, test=0.1, refit=True, batch_sizes=(8, 16))
    (tmp_path / "search.json").write_text(json.dumps({**asdict(kept), "data": "digits"}))
    resumed = ("--output", tmp_path, "--resume")
    assert asked(monkeypatch, *resumed) == kept
    assert asked(monkeypatch, *resumed, "--no-refit", "--trials", 9) == replace(kept, refit=False, trials=9)
    (tmp_path / "search.json").write_text(json.dumps({**asdict(replace(kept, refit=False)), "data": "digits"}))
    assert asked(monkeypatch, *resumed).refit is False
    assert asked(monkeypatch, *resumed, "--refit") == kept


def test_ctrl_c_repeats_the_options_that_the_folder_does_not_keep(monkeypatch, capsys):
    asked(monkeypatch, "--output", "runs/my search", "--trials", 9, "--refit")
    assert capsys.readouterr().out == "\nstopped; go on with: keras-ext search --output 'runs/my search' --resume\n"
    begins = "stopped; go on with: keras-ext search --output out --resume "
    strategy = "" if keras.backend.backend() == "torch" else " --strategy mirrored"
    placed = [f"--isolate 0 --max-retries 5 --trial-timeout 90.5 --memory-limit 1234567{strategy}"]
    if importlib.util.find_spec("ray") is not None:
        placed.append("--workers 2 --ray auto --gpus-per-trial 0.25")
    for given in placed:
        asked(monkeypatch, "--output", "out", *given.split())
        assert capsys.readouterr().out.strip() == begins + given


def prepared(folder):
    """Lay out the files of the mistakes below."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(40, 2)).round(3)
    good = "a,b,kind\n" + "\n".join(f"{a},{b},{'xy'[i % 2]}" for i, (a, b) in enumerate(numbers)) + "\n"
    (folder / "good.csv").write_text(good)
    (folder / "text.csv").write_text(good.replace("\n", "\nred,", 1).replace("\nred,", "\n", 1).replace(f"{numbers[3][1]}", "red"))
    (folder / "gap.csv").write_text(good.replace(f"{numbers[4][1]},", ",", 1))
    (folder / "good.txt").write_text(good)
    (folder / "one.csv").write_text(good.replace("y\n", "x\n"))
    np.savez(folder / "nan.npz", x=np.where(np.arange(80).reshape(40, 2) == 7, np.nan, 1.0), y=np.arange(40) % 2)
    (folder / "pictures").mkdir()
    (folder / "taken").mkdir()
    (folder / "taken/search.json").write_text(
        json.dumps({"tuner": "random", "trials": 1, "epochs": 1, "seed": 0, "validation": 0.2, "test": 0.2})
    )
    (folder / "mine").write_text("a file")
    began = {**asdict(Settings(trials=2)), "data": "digits", "fingerprint": load_digits().fingerprint}
    for trial in "012":
        (folder / f"long/trials/trial_{trial}").mkdir(parents=True)
        (folder / f"long/trials/trial_{trial}/trial.json").write_text("{}")
    (folder / "long/search.json").write_text(json.dumps(began))
    return folder


MISTAKES = {
    "--data no.csv": "no.csv: no such file. Check the path.",
    "--data good.txt": "good.txt: is neither .npz nor .csv, nor a folder of images. Save the data as one of them.",
    "--data text.csv": 'text.csv: column "b" holds numbers, but text in line 5 ("red"): fix or remove that line.',
    "--data gap.csv --target b": 'gap.csv: column "b", the target, has no value in line 6 (empty): fill or remove that line.',
    "--data nan.npz": "nan.npz: NaN or infinite values in the inputs, first in sample 4, feature 2. Fill or remove those samples.",
    "--data good.csv --target price": 'good.csv: no column "price". Name one of "a", "b", "kind" with --target.',
    "--data one.csv": "one.csv: the target has a single class, x: there is nothing to tell apart. Name another target.",
    "--data good.csv --task ranking": "--task must be auto, classification or regression, got ranking.",
    "--target kind": "--target and --task go with --data. Name the file, or leave them out to search on the digits.",
    "--trials 0": "--trials must be a whole number of at least 1, got 0.",
    "--trials many": "Invalid value for '--trials': 'many' is not a valid integer. See keras-ext search --help.",
    "--epochs -3": "--epochs must be a whole number of at least 1, got -3.",
    "--tuner annealing": (
        "--tuner must be one of 'random', 'tpe', 'gp', 'cmaes', 'qmc', 'hyperband', 'grid', 'genetic', got 'annealing'."
    ),
    "--tuner bayesian": (
        "--tuner must be one of 'random', 'tpe', 'gp', 'cmaes', 'qmc', 'hyperband', 'grid', 'genetic', got 'bayesian'. 'tpe' and 'gp' "
        "have taken its place."
    ),
    "--pruner best": "--pruner must be one of 'none', 'median', 'patient', 'halving', 'hyperband', 'wilcoxon', got 'best'.",
    "--tuner hyperband --pruner median": (
        "--pruner must be 'none' with hyperband, which gives poor trials few epochs itself, got 'median'. Leave it out."
    ),
    "--tuner hyperband --trials 9": (
        "--trials 9 has no effect with --tuner hyperband, which sets the number itself. Leave it out; --epochs steers it."
    ),
    "--test 0.7": "--test must be a number in [0, 0.5), got 0.7.",
    "--batch-sizes 16,many": "--batch-sizes must be whole numbers with commas between them, got 16,many.",
    "--data good.csv --batch-sizes 256,512": "--batch-sizes 256, 512: none fits twice into the 24 samples of training. Give smaller ones.",
    "--batch-sizes 0": "--batch-sizes must be a sequence of positive whole numbers, got (0,).",
    "--network transformer": "--network must be one of 'auto', 'mlp', 'residual', 'cnn', 'resnet', 'lstm', got 'transformer'.",
    "--network lstm": "--network lstm needs samples of time and features, got 64. Take mlp.",
    "--data good.csv --network residual --max-layers 2": (
        "--max-layers must be at least 3 with --network residual, got 2. Take another one."
    ),
    "--widths free --max-layers 7 --network residual": "--widths free goes with --network mlp, got residual. Leave it out.",
    "--widths narrow": "--widths must be one of 'same', 'pyramid', 'free', got 'narrow'.",
    "--patience 0": "--patience must be a whole number of at least 1, got 0.",
    "--values layers=1": "--values must be left out with the tuner 'tpe', got {'layers': ['1']}. Only 'grid' fixes values.",
    "--tuner grid --values layers": "--values must be a name and its values, such as layers=1,2, got layers.",
    "--tuner grid --values layers=9": "--values must be values that layers may have, 1, 2, 3, 4, got '9'.",
    "--mixed-precision int8": "--mixed-precision must be one of None, 'float16', 'bfloat16', got 'int8'.",
    "--data good.csv --categories a,color": 'good.csv: no column "color". Name one of "a", "b", "kind" with --categories.',
    "--data good.csv --categories kind": 'good.csv: column "kind" is the target, not an input. Leave it out of --categories.',
    "--data nan.npz --categories a": "--categories goes with a CSV file. Leave it out.",
    "--data good.csv --image-size 8": "--image-size goes with a folder of images. Leave it out.",
    "--data pictures --image-size 8y8": "--image-size must be height x width, such as 32x48, or one number, got 8y8.",
    "--data pictures --task regression": "pictures: is a folder of images, whose folders are classes. Leave --task regression out.",
    "--data pictures": "pictures: needs a folder of images for each of two classes or more, found 0. Sort the images so.",
    "--workers 0": "--workers must be a whole number of at least 1, got 0.",
    "--isolate -1": "--isolate must be a whole number of at least 0, got -1.",
    "--max-retries -1": "--max-retries must be a whole number of at least 0, got -1.",
    "--gpus-per-trial 0": "--gpus-per-trial must be a finite number above 0, got 0.0.",
    "--trial-timeout 0": "--trial-timeout must be a finite number above 0, got 0.0.",
    "--memory-limit -5": "--memory-limit must be a finite number above 0, got -5.0.",
    "--strategy tpu": "--strategy must be one of None, 'mirrored', got 'tpu'.",
    "--zzz": "no such option --zzz. See keras-ext search --help.",
    "--output taken": "taken: holds a search. Add --resume to go on with it, or give another --output.",
    "--output mine": "mine: is a file, not a folder. Give another --output.",
    "--output new --resume": "new: holds no search to resume. Leave --resume out to start one there.",
    "--resume": "--resume needs the folder of the search. Give it with --output FOLDER.",
    "--output long --resume": "long: holds 3 trials already, got --trials 2. Give at least 3: with 3 no further one is trained.",
    "--output taken --resume --seed 4": (
        "taken: holds a search with seed 0, got 4. Give what it began with, or another --output."
    ),
}  # fmt: skip


# Those that the device must be asked for first, and one of each other kind; the others run in this process.
IN_A_PROCESS = ["--output taken", "--output mine", "--data text.csv", "--zzz"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of the mistakes, which are the same afterwards."""
    folder = prepared(tmp_path_factory.mktemp("mistakes"))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    yield folder
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("words", [words for words in MISTAKES if words not in IN_A_PROCESS])
@pytest.mark.backend_free
def test_a_mistake_ends_in_one_line_and_code_2_and_touches_nothing(files, monkeypatch, capsys, words):
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["keras-ext", "search", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    reported = capsys.readouterr()
    assert reported.err == f"keras-ext: {MISTAKES[words]}\n"
    assert reported.out == ""
    assert ended.value.code == 2


@pytest.mark.parametrize("words", IN_A_PROCESS)
@pytest.mark.backend_free
def test_so_does_the_mistake_of_the_installed_command(files, words):
    done = installed("search", *words.split(), cwd=files)
    # Before it TensorFlow writes from C++ what it writes at its import.
    assert done.stderr.splitlines(keepends=True)[-1] == f"keras-ext: {MISTAKES[words]}\n"
    assert done.stderr.count("\n") == 1 or keras.backend.backend() == "tensorflow"
    assert done.stdout == ""
    assert done.returncode == 2


@pytest.mark.parametrize("words", ["--workers 2", "--ray auto", "--gpus-per-trial 0.5"])
def test_without_ray_it_is_a_mistake_to_ask_for_it(files, monkeypatch, capsys, words):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "argv", ["keras-ext", "search", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    reported = "Searches on several processes or machines need Ray. Install it with: pip install keras-ext[ray]"
    assert capsys.readouterr().err == f"keras-ext: {reported}\n"
    assert ended.value.code == 2


def outcome(path):
    reported = json.loads(path.read_text())
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in reported["trials"]], reported["test"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--isolate", 1), ("--workers", 2)])
def test_trials_in_processes_of_their_own_are_the_same(digits, words):
    folder, _ = digits
    if "--workers" in words:
        pytest.importorskip("ray")
    done = keras_ext("search", "--trials", 2, "--epochs", 2, "--output", f"out{words[1]}{words[0]}", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or keras.backend.backend() == "tensorflow"  # which writes from C++ at its import
    trials, test = outcome(folder / f"out{words[1]}{words[0]}/results.json")
    assert (trials, test) == outcome(folder / "two.json")


def test_the_command_and_the_module_are_one_and_help_has_an_example_and_the_default_of_each_option(tmp_path):
    by_command = installed("search", "--help", cwd=tmp_path)
    by_module = subprocess.run([sys.executable, "-m", "keras_ext", "search", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert by_command.returncode == by_module.returncode == 0
    assert by_command.stderr == by_module.stderr == "" or keras.backend.backend() == "tensorflow"  # which writes from C++ at its import
    text = " ".join(by_command.stdout.split())
    assert by_module.stdout == by_command.stdout
    for option in search.params:
        assert option.opts[0] in option.help.split("Example:")[1], option.opts
        assert " ".join(option.help.split("Example:")[1].split("  ")[0].split()) in text


def test_names_and_defaults_in_the_help_are_those_of_the_package():
    named = {"TUNERS": TUNERS, "PRUNERS": PRUNERS, "NETWORKS": NETWORKS, "WIDTHS": WIDTHS, "ACTIVATIONS": ACTIVATIONS, "EARLIER": EARLIER}
    assert {name: tuple(names) for name, names in {**named, "NEW": NEW}.items()} == {n: getattr(options, n) for n in (*named, "NEW")}
    helps = {option.name: option.help for option in search.params}
    known = {**asdict(Settings()), **asdict(Placement())}
    known = {name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in known.items()}
    shown = {name: text.partition("[default: ")[2].partition("]")[0] for name, text in helps.items() if "[default: " in text}
    plain = {name for name in shown if known.get(name) not in (None, "None", "True", "False")}
    assert len(plain) >= 11
    assert {name: shown[name].partition(";")[0] for name in plain} == {name: known[name] for name in plain}
    # What depends on the other settings.
    tuners = [tuner for tuner in TUNERS if tuner != "gp"]  # which needs PyTorch
    assert {tuner: complete(Settings(tuner=tuner), 100).pruner for tuner in tuners} == {
        tuner: "none" if tuner in shown["pruner"] else "median" for tuner in tuners
    }
    assert shown["pruner"] == "median, none for hyperband and grid"
    assert shown["trials_per_structure"] == "a tenth of the trials, at most 8"
    assert f"for more than {DEEP} layers" in helps["network"]
    assert f"; {TRIALS_OF_A_PROCESS} where" in helps["isolate"]


@pytest.mark.backend_free
@pytest.mark.parametrize(
    "words", ["", "--help", "--version", "search --help", "search --zzz", "search --data no.csv", "grow --data no.csv", "diagnose no.keras"]
)
def test_help_and_the_commonest_mistakes_take_no_framework(words, tmp_path):
    code = (
        "import atexit, sys; from keras_ext_cli.main import main; sys.argv[1:] = %r\n"
        "atexit.register(lambda: print(sorted({'keras', 'keras_ext', 'numpy', 'pandas', 'rich'} & set(sys.modules))))\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code % words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == "" or done.stderr.startswith("keras-ext: ") or not words


def test_csv_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = 1000 + 50 * x[:, 0] - 20 * x[:, 1]
    rows = "\n".join(",".join(f"{v:.4f}" for v in (*xs, t)) for xs, t in zip(x, y, strict=True))
    (tmp_path / "houses.csv").write_text("size,age,noise,price\n" + rows)
    done = keras_ext("search", "--data", "houses.csv", "--target", "price", "--trials", 2, "--epochs", 8, "--seed", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "houses.csv: 200 samples, 3 inputs, a number to predict (regression)" in done.stdout
    (folder,) = (tmp_path / "results").iterdir()
    code = (
        "import keras, keras_ext, numpy as np; "
        f"m = keras.models.load_model(r'{folder}/best_model.keras'); print(m.predict(np.zeros((1, 3)), verbose=0)[0, 0])"
    )
    assert 900 < float(python(code, tmp_path)) < 1100
