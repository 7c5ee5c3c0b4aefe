"""How far two outputs are apart, and whether they say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_runtime.compare import max_abs_error, same_answer

FLOATS = nps.arrays(np.float32, (2, 3), elements={"allow_nan": False, "allow_infinity": False})
ONE = np.array([[0.1, 0.9]])


@given(FLOATS, FLOATS)
def test_the_error_is_the_largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    want = max(abs(float(x) - float(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    assert max_abs_error({"y": a}, {"y": b}) == want


@pytest.mark.parametrize("have", [np.array([[0.1, np.nan]]), np.array([[np.inf, 0.9]]), ONE[0], np.zeros((2, 2))])
def test_what_is_no_number_or_has_another_shape_is_infinitely_far(have: NDArray[np.float64]) -> None:
    assert max_abs_error({"y": ONE}, {"y": have}) == math.inf


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_two_outputs_that_are_no_numbers_are_not_near_each_other(odd: float) -> None:
    both = {"y": np.array([[odd, 1.0]])}
    assert max_abs_error(both, both) == math.inf


def test_every_output_counts() -> None:
    assert max_abs_error({"y": ONE, "z": ONE}, {"y": ONE, "z": ONE + 2}) == 2
    assert max_abs_error({"y": ONE, "z": ONE}, {"y": ONE}) == math.inf


def test_whole_numbers_do_not_wrap_around() -> None:
    assert max_abs_error({"y": np.array([0], np.uint8)}, {"y": np.array([255], np.uint8)}) == 255


@pytest.mark.parametrize(
    ("want", "have", "same"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.6], [0.6, 0.4]], True),
        ([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.6], [0.4, 0.6]], False),
        ([[1.0], [2.0]], [[1.01], [2.01]], True),
        ([[1.0], [2.0]], [[2.0], [-1.0]], False),
        ([[[0.0, 0.0]]], [[[0.0, 0.0]]], True),
        ([[[0.0, 0.0]]], [[[0.0, 0.1]]], False),
        ([[[1.0, 2.0]]], [[[np.nan, 2.0]]], False),
        ([[0.1, 0.9]], [[0.1, 0.9, 0.0]], False),
    ],
)
def test_class_scores_agree_by_class_and_others_by_direction(
    want: list[list[float]], have: list[list[float]], same: bool
) -> None:
    assert same_answer({"y": np.array(want)}, {"y": np.array(have)}) is same


def test_a_missing_output_is_not_the_same() -> None:
    assert not same_answer({"y": ONE, "z": ONE}, {"y": ONE})
