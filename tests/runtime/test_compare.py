"""How far two outputs are apart, and whether they say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from edgekit_runtime.agreement import Agreement
from edgekit_runtime.compare import (
    FAINT,
    SAME_DIRECTION,
    SAME_DISTRIBUTION,
    UNEVEN,
    balance,
    divergence,
    max_abs_error,
    same_answer,
)
from edgekit_runtime.errors import EngineError

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


def rows(*found: tuple[float, float, float]) -> NDArray[np.float32]:
    """Boxes of 10 × 10, suppressed ones: left end, score, class."""
    table = [[left, 0, left + 10, 10, score, number] for left, score, number in found]
    return np.array(table, np.float32).reshape(1, -1, 6)


class TestDeclared:
    """By what the user says, where a shape does not tell."""

    BOXES = {"y": Agreement("boxes", columns="score, class")}
    PROBABLE = np.array([[0.5, 0.3, 0.2]])

    def test_an_embedding_has_a_direction_and_no_class(self) -> None:
        want, turned = np.array([[1.0, 1.01, 1.0]]), np.array([[1.01, 1.0, 1.0]])
        assert not same_answer({"y": want}, {"y": turned})
        assert same_answer({"y": want}, {"y": turned}, {"y": Agreement("cosine")})
        assert not same_answer({"y": want}, {"y": -turned}, {"y": Agreement("cosine")})

    def test_distributions_agree_up_to_so_many_nats(self) -> None:
        far = np.array([[0.2, 0.3, 0.5]])
        assert divergence(self.PROBABLE, far) == pytest.approx(0.3 * math.log(2.5))
        near = self.PROBABLE * 0.85 + far * 0.15
        assert 0 < divergence(self.PROBABLE, near) < SAME_DISTRIBUTION
        assert same_answer({"y": self.PROBABLE}, {"y": near}, {"y": Agreement("kl")})
        assert not same_answer({"y": self.PROBABLE}, {"y": far}, {"y": Agreement("kl")})

    def test_logits_are_made_probabilities(self) -> None:
        logits = np.log(self.PROBABLE) + 3
        assert divergence(logits, logits - 7) == pytest.approx(0, abs=1e-9)
        assert divergence(logits, logits[:, ::-1]) == pytest.approx(0.3 * math.log(2.5))

    @given(nps.arrays(np.float32, (2, 3), elements=st.floats(-50, 50, width=32)), st.integers(0, 2**32 - 1))
    def test_no_probability_is_off_by_more_than_a_fifth(self, logits: NDArray[np.float32], seed: int) -> None:
        """(Pinsker, within what is lost by no probability being quite 0.)"""
        p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in logits.astype(np.float64))
        q = p + (q - p) * np.random.default_rng(seed).random()
        if divergence(p[None], q[None]) <= SAME_DISTRIBUTION:
            assert np.abs(p - q).sum() / 2 <= 0.2 + 1e-3

    def test_classes_may_lie_along_another_axis(self) -> None:
        image = np.random.default_rng(0).normal(size=(1, 5, 4, 4)) * 5
        shifted = image + np.arange(4)  # the same for all classes of a pixel
        assert same_answer({"y": image}, {"y": shifted}, {"y": Agreement("kl", axis=1)})
        assert not same_answer({"y": image}, {"y": shifted}, {"y": Agreement("kl")})
        assert same_answer({"y": image}, {"y": shifted}, {"y": Agreement("top1", axis=1)})

    @pytest.mark.parametrize("by", ["kl", "top1"])
    def test_an_axis_that_there_is_not_is_named(self, by: str) -> None:
        with pytest.raises(EngineError, match=r"output 'y' of shape \(1, 3\) has no axis 2"):
            same_answer({"y": self.PROBABLE}, {"y": self.PROBABLE}, {"y": Agreement(by, axis=2)})

    @pytest.mark.parametrize("by", ["kl", "top1", "cosine"])
    def test_what_is_no_number_or_of_another_shape_is_not_the_same(self, by: str) -> None:
        for odd in (np.full((1, 3), np.nan), np.ones((1, 4)), np.zeros((1, 3)) - np.inf):
            assert not same_answer({"y": self.PROBABLE[:, ::-1]}, {"y": odd}, {"y": Agreement(by)})
        assert not same_answer({"y": self.PROBABLE}, {"z": self.PROBABLE}, {"y": Agreement(by)})

    @pytest.mark.parametrize("by", ["kl", "top1", "cosine", "none"])
    def test_nothing_is_the_same_as_nothing(self, by: str) -> None:
        empty = {"y": np.zeros((1, 0))}
        assert same_answer(empty, empty, {"y": Agreement(by)})

    def test_as_many_boxes_as_there_are(self) -> None:
        six = [(20.0 * n, 0.9, n % 2) for n in range(6)]
        want, moved = {"y": rows(*six)}, {"y": rows(*[(left + 2, 0.8, number) for left, _, number in six])}
        assert same_answer(want, moved, self.BOXES)
        assert max_abs_error(want, moved, self.BOXES) == pytest.approx(2)
        five, four = {"y": rows(*six[1:])}, {"y": rows(*six[2:])}
        assert same_answer(want, five, self.BOXES)
        assert max_abs_error(want, five, self.BOXES) == 0
        assert not same_answer(want, four, self.BOXES)
        assert not same_answer(five, four, self.BOXES)
        none = {"y": rows()}
        assert same_answer(none, none, self.BOXES)
        assert not same_answer(five, none, self.BOXES)

    @pytest.mark.parametrize("odd", [np.full((1, 2, 6), np.nan), np.zeros((1, 2, 7)), np.zeros(3)])
    def test_what_holds_no_boxes_is_infinitely_far(self, odd: NDArray[np.float64]) -> None:
        want = {"y": rows((0, 0.9, 1))}
        for have in ({"y": odd}, {"z": odd}):
            assert not same_answer(want, have, self.BOXES)
            assert max_abs_error(want, have, self.BOXES) == math.inf

    def test_a_reference_that_is_not_as_declared_is_an_error(self) -> None:
        for outputs in ({"y": np.zeros((1, 7))}, {"z": np.zeros((1, 6))}):
            for compare in (same_answer, max_abs_error):
                with pytest.raises(EngineError, match="output 'y'"):
                    compare(outputs, outputs, self.BOXES)

    def test_what_belongs_to_boxes_is_not_judged_by_itself(self) -> None:
        how = {"b": Agreement("boxes", scores="s", classes="c")}
        boxes = rows((0, 0, 0), (50, 0, 0))[0, :, :4]
        want = {"b": boxes, "s": np.array([0.9, 0.1]), "c": np.array([3, 4]), "count": np.array([2.0])}
        have = {"b": boxes[:1], "s": np.array([0.8]), "c": np.array([3]), "count": np.array([1.0])}
        assert same_answer(want, have, how)
        assert max_abs_error(want, have, how) == 1
        assert max_abs_error(want, {**have, "s": np.array([np.nan])}, how) == math.inf
        assert not same_answer(want, {**have, "count": np.array([-1.0])}, how)

    def test_nothing_is_asked_of_what_does_not_count(self) -> None:
        how = {"mask": Agreement("none")}
        assert same_answer({"mask": np.zeros((3, 8, 8))}, {"mask": np.ones((2, 8, 8))}, how)
        assert max_abs_error({"mask": np.zeros((3, 8, 8))}, {"mask": np.ones((2, 8, 8))}, how) == 0
        assert max_abs_error({"mask": np.zeros(3)}, {"mask": np.full(3, np.nan)}, how) == math.inf
        assert not same_answer({"mask": np.zeros(3)}, {}, how)
