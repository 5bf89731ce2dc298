"""What JAX compiles in a trial is on disk when it is forgotten, and the user's own cache stays the user's."""

import contextlib

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


@pytest.fixture
def hits():
    """Return a list that gets an entry whenever a program comes from disk."""
    found = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.clear_event_listeners()


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
    try:
        with _backend.programs_on_disk():
            assert jax.config.jax_compilation_cache_dir == str(tmp_path)
            assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update(NAMES[0], None)


def test_caches_that_are_off_stay_off():
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        with _backend.programs_on_disk():
            assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_a_folder_that_has_grown_too_large_begins_anew(monkeypatch, hits):
    with _backend.programs_on_disk():
        run()
    _backend.forget_programs()
    monkeypatch.setattr(jax_programs, "MOST_MIB", 0)
    with _backend.programs_on_disk():
        del hits[:]
        run()
    assert not hits
