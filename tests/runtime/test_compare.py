"""How far two outputs are apart, and whether they say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_runtime.compare import FAINT, SAME_DIRECTION, UNEVEN, balance, max_abs_error, same_answer

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


BOXES = np.random.default_rng(0).random((1, 6, 300)) * np.array([640, 640, 640, 640, 1, 1]).reshape(1, 6, 1)


class TestBalance:
    def test_boxes_and_scores_weigh_the_same_along_either_axis(self) -> None:
        for array in (BOXES, BOXES.transpose(0, 2, 1)):
            found, same = balance(array, array)
            scales = np.sqrt(np.mean(found**2, axis=2 if array is BOXES else 1))
            assert np.allclose(scales, 1)
            assert np.array_equal(found, same)

    def test_scores_that_are_wrong_are_not_drowned_by_boxes_that_are_right(self) -> None:
        """Before balancing, the direction is that of the boxes, by five decimals."""
        wrong = BOXES.copy()
        wrong[:, 4:] = np.random.default_rng(1).random((1, 2, 300))
        a, b = BOXES.ravel(), wrong.ravel()
        assert a @ b > 0.99999 * np.linalg.norm(a) * np.linalg.norm(b)
        assert not same_answer({"y": BOXES}, {"y": wrong})

    def test_a_little_noise_everywhere_is_the_same_answer(self) -> None:
        noisy = BOXES * (1 + 0.02 * np.random.default_rng(1).normal(size=BOXES.shape))
        assert same_answer({"y": BOXES}, {"y": noisy})

    def test_both_are_divided_by_the_scales_of_the_first(self) -> None:
        a, b = balance(BOXES, 2 * BOXES)
        assert np.allclose(b, 2 * a)

    @pytest.mark.parametrize("shape", [(3, 8), (8,), (), (1, 4, 5), (2, 3, 4, 5)])
    def test_what_is_even_or_of_low_order_stays(self, shape: tuple[int, ...]) -> None:
        array = np.ones(shape)
        if len(shape) == 2:
            array[:, 0] *= 1000  # class scores: they are compared by class
        a, b = balance(array, 3 * array)
        assert np.array_equal(a, array)
        assert np.array_equal(b, 3 * array)

    def test_it_begins_at_a_certain_unevenness(self) -> None:
        array = np.ones((1, 2, 50))
        array[:, 0] *= UNEVEN * 0.99
        assert balance(array, array)[0] is not array
        assert np.array_equal(balance(array, array)[0], array)
        array[:, 0] *= 1.02
        assert np.allclose(balance(array, array)[0], 1)

    def test_a_column_that_holds_next_to_nothing_is_not_blown_up(self) -> None:
        array = np.ones((1, 2, 50))
        array[:, 1] = 1e-9
        a, b = balance(array, array + 1e-9)
        assert np.allclose(a[:, 1], 1e-9 / FAINT)
        assert np.abs(a - b).max() < 1e-4
        zero = np.ones((1, 2, 50)) * np.array([1, 0]).reshape(1, 2, 1)
        assert np.isfinite(balance(zero, zero)[0]).all()

    @pytest.mark.parametrize("shape", [(1, 0, 4), (0, 4, 4)])
    def test_of_nothing(self, shape: tuple[int, ...]) -> None:
        a, b = balance(np.zeros(shape), np.zeros(shape))
        assert a.shape == b.shape == shape
        assert same_answer({"y": np.zeros(shape)}, {"y": np.zeros(shape)})

    def test_whole_numbers_become_floats_without_wrapping_around(self) -> None:
        a, b = balance(np.full((1, 2, 2), 200, np.uint8), np.full((1, 2, 2), 100, np.int8))
        assert (a.dtype, a.max(), b.max()) == (np.float64, 200, 100)

    @given(nps.arrays(np.float32, (1, 3, 4), elements=st.floats(-1e6, 1e6, width=32)))
    def test_what_is_balanced_has_the_signs_and_the_zeros_of_the_first(self, array: NDArray[np.float32]) -> None:
        a, b = balance(array, array)
        assert np.array_equal(np.sign(a), np.sign(array))
        assert np.array_equal(a, b)


def test_the_direction_may_differ_by_so_much() -> None:
    for share, same in ((0.99, True), (1.01, False)):
        angle = math.pi / 4 + share * math.acos(SAME_DIRECTION)
        turned, want = np.array([[[math.cos(angle), math.sin(angle)]]]), {"y": np.ones((1, 1, 2))}
        assert same_answer(want, {"y": turned}) is same
