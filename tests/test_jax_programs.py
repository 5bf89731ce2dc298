"""What JAX compiles in a trial is on disk when it is forgotten, and the user's own cache stays the user's."""

import contextlib
import shutil
import tempfile
import warnings
from pathlib import Path

import keras
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("only JAX keeps programs", allow_module_level=True)

import jax
import keras_tuner
import numpy as np

from keras_ext import _backend
from keras_ext._backend import jax_programs
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def no_cache_of_the_user():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update(NAMES[0], None)
    yield
    jax.config.update(NAMES[0], before)


@pytest.fixture
def hits():
    """Return a list that gets an entry whenever a program comes from disk."""
    found = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    # JAX 0.7 has no way to take one away.
    getattr(jax.monitoring, "unregister_event_listener", lambda _: None)(listen)


def tripled(x):
    return 3 * x + 0.5


def run():
    return float(jax.jit(tripled)(np.float32(2.0)))


def test_what_was_forgotten_comes_from_disk_within_and_is_compiled_without(hits):
    run()  # JAX has asked for its settings by now
    _backend.forget_programs()
    with _backend.programs_on_disk():
        run()
        _backend.forget_programs()
        del hits[:]
        assert run() == 6.5
        assert len(hits) == 1
    _backend.forget_programs()
    run()
    assert len(hits) == 1


def test_a_watched_trial_keeps_what_it_compiles_on_disk(tmp_path):
    folders = []

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            folders.append(jax.config.jax_compilation_cache_dir)
            return float(run())

    tuner = Tuner(lambda hp: hp.Float("x", 0, 1), keras_tuner.Objective("score", "min"), max_trials=2, seed=1, directory=tmp_path)
    watch(tuner, SaturationMonitor(np.zeros((2, 2)), np.zeros(2)))
    tuner.search(verbose=0)
    assert len(set(folders)) == 1
    assert "keras_ext_programs_" in folders[0]
    assert jax.config.jax_compilation_cache_dir is None


def test_the_settings_are_as_before_after_an_error_too():
    before = [getattr(jax.config, name) for name in NAMES]
    with contextlib.suppress(KeyError), _backend.programs_on_disk():
        assert [getattr(jax.config, name) for name in NAMES] != before
        raise KeyError
    assert [getattr(jax.config, name) for name in NAMES] == before


def test_a_cache_that_the_user_has_set_stays(tmp_path):
    jax.config.update(NAMES[0], str(tmp_path))
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    with _backend.programs_on_disk():
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
        assert jax.config.jax_persistent_cache_min_compile_time_secs == least
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_a_cache_that_a_trial_sets_stays(tmp_path):
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    with _backend.programs_on_disk():
        jax.config.update(NAMES[0], str(tmp_path))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == least


def test_a_folder_that_somebody_removed_is_made_again(hits):
    with _backend.programs_on_disk():
        run()
        first = jax.config.jax_compilation_cache_dir
    shutil.rmtree(first)
    for _ in range(2):
        del hits[:]
        _backend.forget_programs()
        with _backend.programs_on_disk():
            assert run() == 6.5
            second = jax.config.jax_compilation_cache_dir
    assert second != first
    assert len(hits) == 1


def test_where_no_folder_can_be_made_nothing_is_kept(monkeypatch):
    def full(prefix):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jax_programs, "_folders", {})
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with _backend.programs_on_disk():
        assert jax.config.jax_compilation_cache_dir is None
        assert run() == 6.5


def test_the_folder_goes_with_its_process_and_not_with_a_fork_of_it(in_new_process):
    code = """
import os, sys
from keras_ext import _backend
from keras_ext._backend import jax_programs

folder = jax_programs._folder()
if os.fork() == 0:
    sys.exit()
os.wait()
print(folder, folder.is_dir())
"""
    folder, was_there = in_new_process(code, imports=True).split()[-2:]
    assert was_there == "True"
    assert not Path(folder).exists()


def test_caches_that_are_off_stay_off():
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        with _backend.programs_on_disk():
            assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_a_folder_that_has_grown_too_large_begins_again(monkeypatch, hits):
    with _backend.programs_on_disk():
        run()
    _backend.forget_programs()
    monkeypatch.setattr(jax_programs, "MOST_MIB", 0)
    with _backend.programs_on_disk():
        del hits[:]
        run()
    assert not hits


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other compilers have no such options")
@pytest.mark.parametrize(
    ("layer", "shape", "with_care"),
    [
        (keras.layers.Dense(4), (8, 2), False),
        (keras.layers.LSTM(4), (8, 2), False),
        (keras.layers.Conv1D(4, 3), (8, 2), True),
        (keras.layers.ConvLSTM1D(4, 3), (2, 8, 2), True),
    ],
)
def test_a_snapshot_of_convolutions_is_compiled_with_care(monkeypatch, layer, shape, with_care):
    """Without optimisation a convolution is 20 times as slow, also one inside a loop."""
    options, compiled = [], jax.stages.Lowered.compile

    def noted(lowered, **arguments):
        options.extend([arguments["compiler_options"]] if "compiler_options" in arguments else [])
        return compiled(lowered, **arguments)

    monkeypatch.setattr(jax.stages.Lowered, "compile", noted)
    model = keras.Sequential([keras.Input(shape), layer, keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.zeros((32, *shape)), np.zeros((32, 1))
    with warnings.catch_warnings(action="ignore"):
        model.fit(x, y, verbose=0, callbacks=[SaturationMonitor(x, y)])
    assert {with_care} == {"xla_backend_optimization_level" not in each for each in options}
