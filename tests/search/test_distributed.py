"""KerasTuner's own distributed search, watched: a chief and a worker, each a process of its own."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras_tuner
import numpy as np
import processes
import pytest
from keras_tuner.engine import trial as trial_module

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import project_folder, watch

pytest.importorskip("grpc", reason="KerasTuner's workers talk to their chief through it")

# Run by each process, as KerasTuner asks for. The trial that diverges comes after one with a score.
SCRIPT = """
import sys

import keras
import keras_tuner
import numpy as np

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch

x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
y = (x[:, 0] > 0).astype("int32")


def build(hp):
    kind = hp.Choice("kind", ["well", "dead", "nan", "error"])
    if kind == "error":
        raise ValueError("no such layer")
    bias = keras.initializers.Constant(-50.0 if kind == "dead" else 0.0)
    hidden = keras.layers.Dense(8, "relu", bias_initializer=bias, name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, "softmax", name="out")])
    model.compile(keras.optimizers.SGD(float("nan") if kind == "nan" else 0.1), "sparse_categorical_crossentropy")
    return model


def searched(folder):
    tuner = keras_tuner.GridSearch(build, "val_loss", seed=3, directory=folder, project_name="p")
    watch(tuner, SaturationMonitor(x, y, on_critical="stop"))
    tuner.search(x, y, validation_data=(x, y), epochs=6, verbose=0)
    return tuner


if __name__ == "__main__":
    tuner = searched(sys.argv[1])
    kept = {trial.trial_id: trial.score for trial in tuner.oracle.get_best_trials(9)}
    for record in sorted(results(tuner), key=lambda record: record.number):
        seen = record.status, record.epochs, "dead_relu" in record.symptoms, record.score, kept[record.trial]
        print("TRIAL", record.hyperparameters["kind"], *seen)
"""


def lines(printed):
    return [line.split()[1:] for line in printed.splitlines() if line.startswith("TRIAL")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "search.py").write_text(SCRIPT)
    return folder


def environment(name, port):
    return {**os.environ, "KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port), "KERASTUNER_TUNER_ID": name}


def free_port():
    with socket.socket() as known:
        known.bind(("127.0.0.1", 0))
        return known.getsockname()[1]


def test_a_chief_and_its_worker_find_what_one_process_finds(place):
    alone = processes.run(place / "search.py", place / "alone")
    assert alone.returncode == 0, alone.stderr[-4000:]
    port = free_port()
    command = [sys.executable, str(place / "search.py"), str(place / "shared")]
    with subprocess.Popen(command, env=environment("chief", port), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as chief:
        try:
            worker = processes.run(place / "search.py", place / "shared", env=environment("worker", port))
            assert worker.returncode == 0, worker.stderr[-4000:]  # else the chief waits for another
            printed, errors = chief.communicate(timeout=120)
        finally:
            chief.kill()
    assert chief.returncode == 0, errors[-4000:]
    found = lines(printed)
    assert found == lines(alone.stdout)
    assert [trial[:4] for trial in found] == [
        ["well", "COMPLETED", "6", "False"],
        ["dead", "COMPLETED", "3", "True"],
        ["nan", "COMPLETED", "1", "False"],
        ["error", "FAILED", "0", "False"],
    ]
    # The worst score so far stands in for none.
    assert found[2][4:] == ["None", max(found[0][5], found[1][5], key=float)]
    assert lines(worker.stdout) == found


def test_files_that_threads_save_at_once_are_all_written(tmp_path, monkeypatch):
    """As two searches in threads do, or the threads of a chief's server."""

    def slowly(path, content):
        time.sleep(0.05)
        path.write_bytes(content)

    monkeypatch.setattr(project_folder, "write_bytes", slowly)
    trials = [trial_module.Trial(keras_tuner.HyperParameters(), trial_id=str(i)) for i in range(8)]
    with project_folder.atomic_state_files(), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda trial: trial.save(tmp_path / trial.trial_id), trials))
    assert {path.name for path in tmp_path.iterdir()} == set("01234567")


def test_a_pruner_is_refused_where_no_process_sees_all_epochs(tmp_path, monkeypatch):
    for name, value in environment("worker", free_port()).items():
        monkeypatch.setenv(name, value)
    tuner = keras_tuner.Tuner.__new__(keras_tuner.Tuner)
    tuner.oracle = keras_tuner.oracles.RandomSearchOracle("val_loss")
    tuner.run_trial = print
    with pytest.raises(ValueError, match=r"`pruner` must be None in a distributed search of KerasTuner, got 'median'\. "):
        watch(tuner, SaturationMonitor(np.ones((4, 2)), np.ones(4)), pruner="median")
