"""What is particular to Ray: what it is asked for, what cannot be sent, and machines that leave."""

import importlib.util
import threading
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext._checks import BadInput
from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel import run_on_ray
from keras_ext.search import watch

pytest.importorskip("ray")


class Numbers(keras_tuner.RandomSearch):
    """Trials without networks, which leave marks of the machine that they begin and end on.

    Drawn at random: of a grid KerasTuner lets two begin, and the third when one has ended.
    """

    def run_trial(self, trial, marks, *args, **kwargs):
        import ray

        number, machine = trial.hyperparameters.get("number"), ray.get_runtime_context().get_node_id()
        Path(marks, f"begun {number} {machine}").touch()
        # Until each of the two machines has one: on a slow one the first could end all before the other's processes stand.
        last = time.monotonic() + 90
        while len({path.name.split()[2] for path in Path(marks).glob("begun *")}) < 2 and time.monotonic() < last:
            time.sleep(0.02)
        time.sleep(1.5)
        Path(marks, f"ended {number} {machine}").touch()
        return float(number)


def numbers(folder):
    def space(hp):
        hp.Int("number", 0, 10**6)

    return Numbers(space, keras_tuner.Objective("score", "min"), max_trials=6, seed=1, directory=folder, project_name="p", overwrite=False)


def elsewhere(folder):
    return numbers(folder + "/else")


def watched(folder):
    tuner = keras_tuner.RandomSearch(lambda hp: keras.Sequential(), "loss", directory=folder)
    return watch(tuner, SaturationMonitor(np.zeros((2, 1))))


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        ("numbers", {}, TypeError, "`make_tuner` must be a function of a folder that returns a tuner, got 'numbers'"),
        (numbers, {"monitor": SaturationMonitor}, TypeError, "`monitor` must be a SaturationMonitor or None, got "),
        (numbers, {"trials_at_once": 0}, ValueError, "`trials_at_once` must be a whole number of at least 1, got 0"),
        (numbers, {"trials_per_process": 0}, ValueError, "`trials_per_process` must be a whole number of at least 1, got 0"),
        (numbers, {"max_retries": -1}, ValueError, "`max_retries` must be a whole number of at least 0, got -1"),
        (numbers, {"trial_timeout": 0}, ValueError, "`trial_timeout` must be a finite number above 0, got 0"),
        (numbers, {"memory_limit": -1}, ValueError, "`memory_limit` must be a finite number above 0, got -1"),
        (numbers, {"resources": ["GPU"]}, TypeError, "`resources` must be a dict of amounts"),
        (numbers, {"resources": {"GPU": -1}}, ValueError, "`resources['GPU']` must be a finite number of at least 0, got -1"),
        (numbers, {"strategy": "tpu"}, ValueError, "`strategy` must be one of None, 'mirrored', got 'tpu'"),
        (elsewhere, {}, ValueError, "`make_tuner` must give its tuner the folder that it gets as `directory`, got one in "),
        (watched, {}, ValueError, "`make_tuner` must return a tuner that is not watched. Give the monitor to run_on_ray."),
        (lambda folder: folder, {}, TypeError, "`make_tuner` must be a function of a folder that returns a KerasTuner tuner, got "),
    ],
)
def test_a_mistake_is_reported_before_ray_begins(tmp_path, make, arguments, error, message):
    with pytest.raises(error) as raised:
        run_on_ray(make, 0.0, directory=tmp_path / "s", **arguments)
    assert message in str(raised.value)


def test_a_folder_that_cannot_be_written_is_reported_before_anything_begins(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match=r"cannot be written \(Not a directory\)\. Give another folder, or make room\."):
        run_on_ray(numbers, 0.0, directory=tmp_path / "file/s")


def test_without_ray_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(ImportError, match=r"need Ray\. Install it with: pip install keras-ext\[ray\]$"):
        run_on_ray(numbers, 0.0, directory=tmp_path)


@pytest.fixture
def cluster():
    """A cluster of two machines, this one with two cores and another with three of a kind of its own."""
    import ray
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    other = machines.add_node(num_cpus=2, resources={"there": 3})
    ray.init(machines.address, log_to_driver=False, logging_level="ERROR")
    yield machines, other
    ray.shutdown()
    machines.shutdown()


@pytest.mark.slow
def test_a_machine_that_leaves_takes_no_trial_with_it(tmp_path, cluster):
    machines, other = cluster
    with pytest.raises(BadInput, match=r"a trial needs 1 CPU, 4 there, and no machine of the cluster has more than 2 CPU, 3 there\."):
        run_on_ray(numbers, 0.0, directory=tmp_path / "much", resources={"there": 4})
    with pytest.raises(
        TypeError, match=r"something cannot: .*lock.* Of data that cannot, give a function without arguments that makes it\."
    ):
        run_on_ray(numbers, threading.Lock(), directory=tmp_path / "lock")

    marks = tmp_path / "marks"
    marks.mkdir()

    def on_the_other(what):
        return {path.name.split()[1] for path in marks.glob(f"{what} * {other.node_id}")}

    def leave():
        while not on_the_other("begun") - on_the_other("ended"):
            if searched.wait(0.02):
                return
        machines.remove_node(other, allow_graceful=False)

    searched = threading.Event()
    thread = threading.Thread(target=leave)
    thread.start()
    tuner = run_on_ray(numbers, lambda: str(marks), directory=tmp_path / "s", trials_at_once=4, trials_per_process=99, verbose=0)
    searched.set()
    thread.join()
    lost = on_the_other("begun") - on_the_other("ended")
    assert lost
    for number in lost:
        assert len(list(marks.glob(f"ended {number} *"))) == 1
    ended = tuner.oracle.trials.values()
    assert [(t.score, t.status) for t in ended] == [(float(t.hyperparameters.get("number")), "COMPLETED") for t in ended]
    assert len({t.score for t in ended}) == 6
    assert len(list(Path(tmp_path, "s/p").glob("trial_*/trial.json"))) == 6
