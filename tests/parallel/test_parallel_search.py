"""The loop of a search whose trials run elsewhere, with workers that say what the test reports them to."""

import json
from pathlib import Path

import keras_tuner
import pytest

from keras_ext.callbacks import Finding
from keras_ext.parallel.job import Failure, Outcome
from keras_ext.parallel.parallel_search import ParallelSearch, RetryPolicy, TrialError
from keras_ext.parallel.workers import WorkerEvent
from keras_ext.search import results
from keras_ext.search.trial_report import TrialReport

DEAD = Finding("dead_relu", "critical", "h1", 10, 1, 1.0, 0.5, "HeNormal")


class Scripted:
    """Workers, of which each trial follows the script of its number."""

    def __init__(self, scripts):
        self.scripts, self.log, self.waiting = scripts, [], []

    def start(self, jobs):
        self.log.append("start " + " ".join(str(int(job.name)) for job in jobs))
        self.waiting += jobs

    def events(self, timeout):
        job = self.waiting.pop()
        for what, *values in self.scripts[job.states[-1]["hyperparameters"]["values"]["number"]].pop(0):
            if what == "well":
                yield WorkerEvent(
                    job.name, "ended", (Outcome(*values, TrialReport(epochs=3, planned_epochs=3), job.states[-1], {"a/b.txt": b"mine"}),)
                )
            elif what == "fails":
                yield WorkerEvent(job.name, "ended", (Outcome(None, TrialReport(error=values[1]), job.states[-1], {}, Failure(*values)),))
            else:
                yield WorkerEvent(job.name, what, tuple(values))

    def kill(self, name):
        self.log.append(f"kill {int(name)}")

    def close(self):
        self.log.append("close")


def tuner(folder):
    class Numbers(keras_tuner.GridSearch):
        def run_trial(self, trial, *args, **kwargs):
            raise AssertionError("runs elsewhere")

    def space(hp):
        hp.Int("number", 0, 2)

    return Numbers(space, keras_tuner.Objective("score", "min"), directory=folder, project_name="p", overwrite=False)


def search(folder, scripts, at_once=1, patience=None, on_finding=None, together=1):
    workers, searched = Scripted(scripts), tuner(str(folder))
    ParallelSearch(searched, workers, at_once, patience or RetryPolicy(), on_finding, verbose=0, together=together).search()
    return workers, searched


def diagnoses(folder):
    return {path.parent.name[-1]: json.loads(path.read_text()) for path in Path(folder).glob("p/trial_*/diagnosis.json")}


def test_what_a_trial_leaves_comes_back_and_the_tuner_is_itself_again(tmp_path):
    workers, searched = search(tmp_path, [[[("well", {"score": 2.0})]], [[("well", {"score": 1.0})]], [[("well", 3.0)]]])
    assert [t.score for t in searched.oracle.trials.values()] == [2.0, 1.0, 3.0]
    assert workers.log == ["start 0", "start 1", "start 2", "close"]
    assert {path.read_bytes() for path in tmp_path.glob("p/trial_*/a/b.txt")} == {b"mine"}
    assert len(list(tmp_path.glob("p/trial_*/a/b.txt"))) == 3
    with pytest.raises(AssertionError, match="runs elsewhere"):
        searched.run_trial(None)
    assert not {"search", "run_trial", "on_trial_end"} & set(vars(searched))
    assert searched.oracle.max_consecutive_failed_trials == 3


def test_a_trial_whose_process_dies_runs_again_and_what_it_reported_is_kept_in_the_end(tmp_path):
    heard = []
    dies = [("started", 1), ("begins", 9), ("epoch_ends", 2, 0.5), ("finds", DEAD), ("died", "killed")]
    again = [("started", 2), ("begins", 9), ("died", "killed")]
    scripts = [[dies, again, [("well", 1.0)]], [dies, dies, dies], [[("well", 2.0)]]]
    workers, searched = search(tmp_path, scripts, on_finding=heard.append)
    assert workers.log.count("start 0") == workers.log.count("start 1") == 3
    assert heard == [DEAD] * 4
    found = {r.number: r for r in results(searched)}
    assert (found[1].score, found[1].epochs, found[1].symptoms) == (1.0, 3, ())
    assert found[2].ended == "failed: its process died 3 times: killed"
    assert (found[2].status, found[2].epochs, found[2].planned_epochs, found[2].symptoms) == ("FAILED", 2, 9, ("dead_relu",))
    assert diagnoses(tmp_path)["1"]["findings"][0]["layer"] == "h1"


def test_trials_of_a_group_begin_at_once_and_those_whose_process_died_begin_again_each_alone(tmp_path):
    scripts = [[[("died", "killed")], [("well", 1.0)]], [[("died", "killed")], [("well", 2.0)]], [[("well", 3.0)]]]
    workers, searched = search(tmp_path, scripts, together=2)
    assert [t.score for t in searched.oracle.trials.values()] == [1.0, 2.0, 3.0]
    assert workers.log == ["start 0 1", "start 1", "start 0", "start 2", "close"]


def test_with_no_retry_the_first_death_is_the_last(tmp_path):
    scripts = [[[("died", "gone")]], [[("well", 1.0)]], [[("well", 1.0)]]]
    workers, searched = search(tmp_path, scripts, patience=RetryPolicy(max_retries=0))
    assert workers.log.count("start 0") == 1
    assert sorted(results(searched), key=lambda r: r.number)[0].ended == "failed: its process died 1 time: gone"


def test_a_trial_of_too_much_memory_is_killed_and_not_tried_again(tmp_path):
    scripts = [[[("started", 1), ("exceeds", 3 * 2**30, 2**31), ("died", "killed")]], [[("well", 1.0)]], [[("well", 1.0)]]]
    workers, searched = search(tmp_path, scripts)
    assert workers.log[:2] == ["start 0", "kill 0"]
    assert workers.log.count("start 0") == 1
    assert results(searched)[-1].ended == "failed: out of memory: it took 3,072 MiB of 2,048 MiB that a trial may take"


def test_a_trial_that_hangs_is_killed(tmp_path):
    scripts = [[[("started", 1)]], [[("well", 1.0)]], [[("well", 1.0)]]]
    workers, searched = search(tmp_path, scripts, patience=RetryPolicy(trial_timeout=1e-9))
    assert workers.log[:2] == ["start 0", "kill 0"]
    assert results(searched)[-1].ended == "failed: it took longer than 1e-09 s"


def test_no_number_of_trials_that_fail_by_themselves_ends_the_search_but_the_same_error_in_all_does(tmp_path):
    _, searched = search(tmp_path / "a", [[[("fails", "failed", "oversized")]] for _ in range(3)])
    assert [r.ended for r in results(searched)] == ["failed: oversized"] * 3
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match=r"All 3 trials failed with the same error, .*: ValueError: no"):
        search(tmp_path / "b", [[[("fails", "invalid", "ValueError: no", "Traceback")]] for _ in range(3)])
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match="no model"):
        search(tmp_path / "c", [[[("fails", "fatal", "TypeError: no model", "TypeError: no model")]]])
    assert issubclass(TrialError, Exception)


def test_an_interruption_ends_the_processes_and_leaves_the_trial_for_the_next_time(tmp_path):
    class Interrupted(Scripted):
        def events(self, timeout):
            if "start 1" in self.log:
                raise KeyboardInterrupt
            yield from super().events(timeout)

    workers, searched = Interrupted([[[("well", 1.0)]], [[]], []]), tuner(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        ParallelSearch(searched, workers, 1, RetryPolicy(), verbose=0).search()
    assert workers.log == ["start 0", "start 1", "close"]
    again = tuner(str(tmp_path))
    assert [t.status for _, t in sorted(again.oracle.trials.items())] == ["COMPLETED", "RUNNING"]


class Slow(Scripted):
    """Workers that say nothing for a while."""

    def __init__(self, scripts):
        super().__init__(scripts)
        self.silent = 50

    def events(self, timeout):
        self.silent -= 1
        return super().events(timeout) if self.silent < 0 else iter(())


def test_an_oracle_that_has_no_trial_is_asked_again_only_once_one_has_ended(tmp_path):
    searched, asked = tuner(str(tmp_path)), []
    create = searched.oracle.create_trial
    searched.oracle.create_trial = lambda name: asked.append(name) or create(name)
    ParallelSearch(searched, Slow([[[("well", 1.0)]] for _ in range(3)]), 5, RetryPolicy(), verbose=0).search()
    assert [t.score for t in searched.oracle.trials.values()] == [1.0, 1.0, 1.0]
    assert len(asked) == 3 + 1 + 3  # three trials, then none, and none after each end
