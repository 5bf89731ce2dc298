"""KerasTuner searches on JAX and PyTorch where TensorFlow is not installed."""

import importlib.util

import keras
import pytest

pytestmark = pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="is about the other backends")

# For this process and those that it starts; TensorBoard is not in the README's list for JAX and PyTorch either.
BLOCKED = """
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec


class Others(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ("tensorflow", "tensorboard") else find(name, path, target)


importlib.machinery.PathFinder.find_spec = Others.find_spec
"""
SCRIPT = """
import sys

import keras
import keras_tuner
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import GeneticTuner, choices, results, watch
from sklearn.datasets import load_digits

try:
    import tensorflow
except ImportError:
    pass
else:
    raise SystemExit("TensorFlow is there")

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
x, y, x_test, y_test = images[297:] / 16, labels[297:], images[:297] / 16, labels[:297]


def build(hp):
    activation = choices.activation(hp)
    model = keras.Sequential([keras.Input((64,))])
    model.add(keras.layers.Dense(32, activation, kernel_initializer=choices.initializer(hp, activation)))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile(choices.optimizer(hp), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


TUNERS = {
    "random": lambda: keras_tuner.RandomSearch(build, "val_accuracy", max_trials=2, seed=1, directory="random"),
    "hyperband": lambda: keras_tuner.Hyperband(build, "val_accuracy", max_epochs=4, seed=1, directory="hyperband"),
    "bayesian": lambda: keras_tuner.BayesianOptimization(build, "val_accuracy", max_trials=4, seed=1, directory="bayesian"),
    "genetic": lambda: GeneticTuner(build, "val_accuracy", max_trials=6, population_size=4, seed=1, directory="genetic"),
}
for name in sys.argv[1:]:
    tuner = watch(TUNERS[name](), SaturationMonitor(x, y, on_critical="stop"))
    tuner.search(x, y, epochs=3, batch_size=50, validation_split=0.2, verbose=0)
    found = results(tuner)
    found.to_csv(f"{name}.csv")
    accuracy = tuner.get_best_models()[0].evaluate(x_test, y_test, verbose=0)[1]
    print(name, len(found), all(record.status == "COMPLETED" for record in found), accuracy)
assert not any(module.partition(".")[0] == "tensorflow" for module in sys.modules)
"""


IS_INSTALLED = importlib.util.find_spec("tensorflow") is not None


@pytest.fixture
def run_without(run_alone, run_here, tmp_path, capsys):
    """A function that runs a script as where TensorFlow is not installed, and returns what it prints.

    Where it is not, no process is needed for that.
    """

    def run(script, *arguments, alone=IS_INSTALLED):
        if not alone:
            run_here(script, tmp_path, *arguments)
            return capsys.readouterr().out
        (tmp_path / "blocked").mkdir()
        (tmp_path / "blocked/sitecustomize.py").write_text(BLOCKED)
        process = run_alone(script, tmp_path, *arguments, first_path=tmp_path / "blocked")
        assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
        return process.stdout

    return run


@pytest.mark.parametrize(
    "tuners", [("random",), pytest.param(("hyperband", "bayesian", "genetic"), marks=pytest.mark.slow)], ids=["quick", "rest"]
)
def test_a_search_runs_to_its_end(tuners, run_without, tmp_path):
    printed = [line.split() for line in run_without(SCRIPT, *tuners).splitlines()]
    reported = {line[0]: line[1:] for line in printed if line and line[0] in tuners}
    assert set(reported) == set(tuners)
    for name, (trials, completed, accuracy) in reported.items():
        assert int(trials) >= 2
        assert completed == "True"
        # Chance is .1.
        assert float(accuracy) > 0.4
        assert (tmp_path / f"{name}.csv").read_text().count("\n") == int(trials) + 1


@pytest.mark.slow
def test_the_command_searches_in_processes_of_its_own(run_without, tmp_path):
    rows = [f"{i},{('red', 'blue')[i % 2]},{3 * i + 50 * (i % 2)}" for i in range(80)]
    (tmp_path / "houses.csv").write_text("\n".join(["size,colour,price", *rows]) + "\n")
    script = "from keras_ext.__main__ import main\nmain()\n"
    options = "search --data houses.csv --target price --trials 2 --epochs 2 --isolate 1 --output run"
    run_without(script, *options.split(), alone=True)
    assert (tmp_path / "run/best_model.keras").exists()
    assert len(list((tmp_path / "run/trials").glob("**/diagnosis.json"))) == 2
