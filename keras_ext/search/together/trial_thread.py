"""A function in a thread of its own that runs in turns with its caller, so that of all such threads one runs at a time."""

import contextlib
import contextvars
import ctypes
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ext import _backend
from keras_ext._backend import keras_private


@dataclass(frozen=True)
class Rung:
    """An epoch after which a thread pauses until all threads that began as early have come as far."""

    epoch: int

    @property
    def key(self) -> Any:
        """The same for threads that wait for each other."""
        return "rung", self.epoch


_current: contextvars.ContextVar["TrialThread | None"] = contextvars.ContextVar("trial_thread", default=None)


class TrialThread:
    """Runs `function`, which hands over to the caller where it calls `pause`.

    Between its turns it keeps what a process has once: the states of the random generators, and Keras's session.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._error: BaseException | None = None
        self._thrown: BaseException | None = None
        self._mine, self._callers = threading.Semaphore(0), threading.Semaphore(0)
        self._state: Any = None
        self._settings = (keras.config.dtype_policy(), keras.distribution.distribution())
        context = contextvars.copy_context()
        # KerasTuner's lock of an oracle is a thread's by its name, and stays so where an update fails: all take turns under one name.
        name = threading.current_thread().name
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        # What it waits for; None while it runs.
        self.request: Any = None
        self.is_done = False
        # The last one that ended, where a pruner compares the trials at an epoch.
        self.epoch = 0
        # Seconds in which others ran.
        self.waited = 0.0

    @staticmethod
    def current() -> "TrialThread | None":
        """Return the thread of this kind that runs this code."""
        return _current.get()

    def resume(self, thrown: BaseException | None = None) -> None:
        """Let it run until it pauses or ends; raise what it raises. `thrown` is raised where it paused."""
        own = _process_state()
        self._thrown = thrown
        if self._state is None:
            self._thread.start()
        else:
            _restore(self._state)
            self._mine.release()
        try:
            self._callers.acquire()
        except BaseException as error:  # Ctrl-C, which Python raises in the main thread alone: it ends where it is, or pauses next
            self._thrown = error
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(type(error)))
            while not self._callers.acquire(timeout=0.1) and self._thread.is_alive():
                pass
            raise
        finally:
            self._state = _process_state()
            _restore(own)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def pause(self, request: Any) -> None:
        """Hand over to the caller of `resume` until the next; called by the thread itself."""
        self.check()
        began = time.monotonic()
        self.request = request
        self._callers.release()
        self._mine.acquire()
        self.request = None
        self.waited += time.monotonic() - began
        self.check()

    def check(self) -> None:
        """Raise what ends the thread, if it is to end."""
        if self._thrown is not None:
            error, self._thrown = self._thrown, None
            raise error

    def close(self) -> None:
        """End the thread where it has paused."""
        if self._state is not None and not self.is_done:
            with contextlib.suppress(BaseException):
                self.resume(KeyboardInterrupt())

    def _run(self) -> None:
        _current.set(self)
        # In a new thread Keras has its defaults.
        keras.config.set_dtype_policy(self._settings[0])
        keras.distribution.set_distribution(self._settings[1])
        try:
            self._function()
        except BaseException as error:
            self._error = error
        self.is_done = True
        self._callers.release()


def _process_state() -> Any:
    return random.getstate(), np.random.get_state(), _backend.random_state(), keras_private.session()


def _restore(state: Any) -> None:
    of_python, of_numpy, of_backend, session = state
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    _backend.set_random_state(of_backend)
    keras_private.set_session(session)
