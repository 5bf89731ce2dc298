"""What the fuzz tests share: values to try, the law that a constructor owes, and how long to search for what breaks it."""

import contextlib
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

import keras_ext
from keras_ext._checks import BadInput

# What no argument expects: of another type, outside of every range, at its very edge, or almost right.
ODDITIES = (
    None, True, False, 0, 1, -1, 2, 3, 0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 5e-324, 1e-30, 1e-8, 1e30, 1e308, 2**31, 2**63, 10**400,
    math.nan, math.inf, -math.inf, 1 + 0j, Fraction(1, 2), "", " ", "0.5", "sgd", "zeros", "nothing", "a/b", "(", b"x",
    [], [1], [0.5], ["a"], [None], [True], [[1, 2], [3]], (), (1, 2), (0,), (-1,), (None, 1),
    {}, {"a": 1}, {0: 1}, {"class_name": "Nothing"},
    np.float32(0.5), np.float64(0.25), np.int64(3), np.int32(-1), np.bool_(True), np.float32("nan"), np.array(0.5), np.array(2),
    np.array([0.5, 1.0]), np.array([]), np.array(["a", "b"]), object, len, set(), range(3),
)  # fmt: skip
WHOLE = st.integers(1, 5)
SHARE = st.sampled_from([0, 1, 0.0, 1.0, 0.5, 0.25, 0.9, np.float32(0.5)])
FLAG = st.booleans()
NAME = st.sampled_from([None, "some_name"])
SEED = st.sampled_from([None, 0, 1, 7, 2**31 - 1, np.int64(5)])
ODD = st.one_of(
    st.sampled_from(ODDITIES),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=6),
    st.lists(st.one_of(st.integers(-3, 9), st.floats(-2, 2), st.text(max_size=3), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(-3, 9) | st.text(max_size=3), max_size=2),
)

HOUSE = Path(keras_ext.__file__).parent
# Who raises on purpose.
KNOWN = (HOUSE, HOUSE.parent / "callbacks", Path(keras.__file__).parent, Path(keras_tuner.__file__).parent)
WORDS = re.compile(r"\b(got|received|found|expected|must|cannot|should be|unknown|invalid|there is no|mustspecify)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fuzzed:
    """How a class is tried: right values of its arguments, what it owes if it can be made, and those that it cannot do without.

    `found` are arguments that once broke it.
    """

    make: Callable[..., Any]
    right: Mapping[str, st.SearchStrategy]
    owes: Callable[[Any, dict[str, Any]], None]
    needed: tuple[str, ...] = ()
    found: tuple[dict[str, Any], ...] = ()


@st.composite
def given_arguments(draw, fuzzed, spoil=2):
    """Draw right values for some of the arguments, and odd ones for at most `spoil`."""
    names = sorted(fuzzed.right)
    some = draw(st.lists(st.sampled_from(names), unique=True, max_size=4)) if names else []
    spoiled = draw(st.lists(st.sampled_from(names), unique=True, max_size=spoil)) if names else []
    arguments = {name: draw(fuzzed.right[name]) for name in (*fuzzed.needed, *some)}
    return {**arguments, **{name: draw(ODD) for name in spoiled}}


def works_or_is_refused_in_words(fuzzed, arguments):
    """Hold the law: what is made works; what is not is reported of in a worded error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            thing = fuzzed.make(**arguments)
        except (ValueError, TypeError) as error:
            check_wording(error, fuzzed.right)
            return
        fuzzed.owes(thing, arguments)


def check_wording(error, names=None):
    """Check that an error was raised on purpose, by us or by a library's check, says what was wrong with what, and names one of `names`."""
    text, last = str(error), error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    where = Path(last.tb_frame.f_code.co_filename)
    on_purpose = any(folder in where.parents for folder in KNOWN) and WORDS.search(text)
    if isinstance(error, BadInput):  # of data: its one line names the fix
        on_purpose = text.endswith(".") and "\n" not in text
    elif names is not None:
        on_purpose = on_purpose and any(re.search(rf"(?<![\w.]){re.escape(name)}\b", text) for name in names)
    if not on_purpose:
        raise AssertionError(f"not worded: {type(error).__name__} at {where.name}:{last.tb_lineno}: {text}") from error


def refused(call):
    """Return what `call` returns, or None where that is a worded error too: some arguments are wrong for an input alone."""
    try:
        return call()
    except (ValueError, TypeError) as error:
        check_wording(error)
        return None


def comes_back(thing, arguments):
    """Check that the config is JSON and holds the arguments, and that an equal object comes from it."""
    config = thing.get_config()
    assert {name for name, value in arguments.items() if value is not None} <= set(config)
    for name, value in arguments.items():
        if isinstance(value, (int, float, np.number)) and isinstance(config[name], (int, float)):
            np.testing.assert_allclose(config[name], float(value), rtol=1e-6)
        elif isinstance(value, str) and isinstance(config[name], str):
            assert config[name].lower() == ("truncated_normal" if value == "normal" else value.lower())
    text = json.dumps(config, allow_nan=False)
    again = type(thing).from_config(json.loads(text))
    assert json.dumps(again.get_config()) == text
    return again


def can_be_saved(arguments):
    """Return whether no argument is a function or an array, which Keras takes for an initializer or a rate, and saves neither."""
    return all(hasattr(v, "get_config") or not (callable(v) or isinstance(v, (np.ndarray, np.generic))) for v in arguments.values())


def is_moderate(arguments):
    """Return whether no number in the arguments is so large or so small that arithmetic would overflow by right."""
    return all(n == 0 or 1e-6 <= abs(n) <= 1e6 for n in _numbers(list(arguments.values())))


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, np.ndarray)):
        for item in value if not isinstance(value, np.ndarray) or value.ndim else [value.item()]:
            yield from _numbers(item)
    elif isinstance(value, (int, float, Fraction, np.number)):
        yield value


# What a constructor checks hangs little on the backend. PyTorch, which computes at once, tries the most; JAX compiles each operation that
# runs by itself, so that there the deep snapshots alone run what was made.
BACKEND = keras.backend.backend()
EXAMPLES = {"tensorflow": 12, "jax": 20, "torch": 40}[BACKEND]


def quick(room, examples=EXAMPLES, odd=True):
    """Try each class of a room with the same examples on each run."""
    for name, fuzzed in room.items():
        if BACKEND == "jax":
            fuzzed = replace(fuzzed, owes=_has_a_config)
        snapshot = settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        _tried(name, fuzzed, snapshot, odd)()


def _has_a_config(thing, arguments):
    if hasattr(thing, "get_config") and can_be_saved(arguments):
        comes_back(thing, arguments)


def deep(name, fuzzed, examples=1500, odd=True):
    """Try a class with other examples on each run."""
    snapshot = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
    seed(np.random.SeedSequence().entropy)(_tried(name, fuzzed, snapshot, odd))()


def _tried(name, fuzzed, snapshot, odd):
    @snapshot
    @given(arguments=given_arguments(fuzzed, 2 if odd else 0))
    def law(arguments):
        try:
            with _little_memory():
                works_or_is_refused_in_words(fuzzed, arguments)
        except Exception as error:
            error.add_note(f"{name}(**{arguments!r})")
            raise

    for arguments in fuzzed.found if odd else ():
        law = example(arguments=arguments)(law)
    return law


@contextlib.contextmanager
def _little_memory(more=8 * 2**30):
    """Let the process take 8 GiB more at most: an absurd size is an error with its arguments then, not the end of all tests."""
    if sys.platform != "linux":
        yield
        return
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def public(module, without=()):
    """Return the names of the classes that a module offers, but those that the package makes itself."""
    return sorted(name for name in module.__all__ if isinstance(getattr(module, name), type) and name not in without)
