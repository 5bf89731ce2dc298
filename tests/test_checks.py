"""The wording of refusals, whole."""

import numpy as np
import pytest

from keras_ext._checks import flag, in_range, integer, items, one_of, plain
from keras_ext._wording import one_line, reason, sentence

pytestmark = pytest.mark.backend_free


@pytest.mark.parametrize(
    ("value", "closed", "inside"),
    [
        (0.0, "both", True),
        (1.0, "both", True),
        (0.0, "right", False),
        (1.0, "left", False),
        (1.0, "neither", False),
        (0.5, "neither", True),
    ],
)
def test_a_range_holds_the_ends_that_it_names(value, closed, inside):
    if inside:
        assert in_range("rate", value, 0.0, 1.0, closed=closed) == value
    else:
        with pytest.raises(ValueError, match="`rate`"):
            in_range("rate", value, 0.0, 1.0, closed=closed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1", None, True, 1 + 0j])
def test_a_range_refuses_what_is_no_finite_number(value):
    with pytest.raises(ValueError, match="a finite number of at least 0"):
        in_range("epsilon", value, 0.0)


def test_messages_name_argument_rule_value_and_fix():
    with pytest.raises(ValueError) as raised:
        in_range("threshold", -2, 0.0, closed="neither", fix="Norms are positive.")
    assert str(raised.value) == "`threshold` must be a finite number above 0, got -2. Norms are positive."
    with pytest.raises(ValueError) as raised:
        integer("trials", 0)
    assert str(raised.value) == "`trials` must be a whole number of at least 1, got 0."
    with pytest.raises(ValueError) as raised:
        one_of("rule", "norms", ("value", "norm"))
    assert str(raised.value) == "`rule` must be one of 'value', 'norm', got 'norms'."
    with pytest.raises(ValueError) as raised:
        flag("center", "yes")
    assert str(raised.value) == "`center` must be True or False, got 'yes'."


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(ValueError, match="`trials` must be a whole number of at least 1"):
        integer("trials", value)


def test_long_values_are_cut():
    with pytest.raises(ValueError) as raised:
        one_of("rule", "x" * 500, ("a",))
    assert len(str(raised.value)) < 140


def test_numbers_are_pythons_own_and_fit_into_32_bits():
    found = plain(np.float32(0.5)), plain(np.int64(2)), plain(2**31)
    assert found == (0.5, 2, 2147483648.0)
    assert [type(v) for v in found] == [float, int, float]


def test_items_are_those_of_a_list_and_of_what_is_like_one():
    assert items([1, 2]) == (1, 2)
    assert [items(value) for value in ("ab", b"ab", {"a": 1}, np.array(1.5), 3)] == [None] * 5


def test_errors_are_told_in_one_line():
    assert one_line(ValueError("no\n  such layer")) == "ValueError: no such layer"
    assert len(one_line(ValueError("x" * 500))) < 320
    assert reason(OSError(28, "No space left on device")) == "No space left on device"
    assert sentence("put GradientClipping around it") == "Put GradientClipping around it"
