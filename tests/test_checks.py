"""The wording of refusals, whole."""

import pytest

from keras_ext._checks import flag, in_range, integer, one_of

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
