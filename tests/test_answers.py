from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.data.answers import Answers, confidence, distinction, guessing, luck, several

RNG = np.random.default_rng(0)
BOOLEANS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40).map(np.array)


def answers(said: Any, labels: Any, classes: int = 4) -> Answers:
    return Answers(np.eye(classes, dtype=np.float32)[np.asarray(said)], np.asarray(labels))


class TestRight:
    def test_is_the_highest_score_at_the_label(self) -> None:
        have = answers([0, 1, 2, 3], [0, 1, 3, -1])
        assert have.right().tolist() == [True, True, False, False]
        assert answers([1, 2, 3, 0], [0, 1, 2, -1]).right(1).tolist() == [True, True, True, False]

    def test_sets_of_answers_follow_one_another(self) -> None:
        both = answers([0], [0]).and_then(answers([1, 2], [0, 2]))
        assert both.right().tolist() == [True, False, True]


class TestLuck:
    @given(BOOLEANS)
    def test_is_the_tail_of_a_fair_coin(self, pairs: Any) -> None:
        one, other = pairs.T
        wins, games = int((one & ~other).sum()), int((one != other).sum())
        tail = sum(math.comb(games, k) for k in range(wins, games + 1)) / 2**games
        assert luck(one, other) == tail
        assert 0 < luck(one, other) <= 1
        assert luck(one, other) + luck(other, one) >= 1

    def test_samples_that_both_have_right_say_nothing(self) -> None:
        same = np.ones(1000, bool)
        assert luck(same, same) == 1.0
        one = np.array([True] * 14)
        assert luck(one, ~one) == 2.0**-14
        assert luck(np.ones(2000, bool), np.zeros(2000, bool)) == 0.0


class TestSeveral:
    def test_is_of_labels_that_are_not_nearly_all_the_same(self) -> None:
        assert several(answers([0] * 10, [0, 1] * 5)) and several(answers([0] * 10, [0] * 7 + [1] * 3))
        assert not several(answers([0] * 10, [0] * 8 + [1] * 2)) and not several(answers([0], [3]))


class TestGuessing:
    @pytest.mark.parametrize("classes", [2, 10, 1000])
    def test_answers_by_lot_are(self, classes: int) -> None:
        found = [
            guessing(answers(RNG.integers(0, classes, 400), RNG.integers(0, classes, 400), classes)) for _ in range(20)
        ]
        assert sum(found) >= 16

    def test_one_answer_to_everything_is(self) -> None:
        for share in (0.1, 0.5, 0.95):
            assert guessing(answers(np.zeros(100, int), (RNG.random(100) > share).astype(int)))

    def test_a_poor_model_is_not(self) -> None:
        labels = RNG.integers(0, 10, 400)
        said = np.where(RNG.random(400) < 0.15, labels, RNG.integers(0, 10, 400))
        assert not guessing(answers(said, labels, 10))

    def test_a_label_beyond_the_classes_is_no_error(self) -> None:
        guessing(answers([0, 1], [9, 1]))


class TestDistinction:
    def test_is_0_for_one_answer_and_1_for_all_of_them(self) -> None:
        assert distinction(answers([2] * 9, [0] * 9)) == pytest.approx(0, abs=1e-9)
        assert distinction(answers([0, 1, 2, 3] * 3, [0] * 12)) == pytest.approx(1)
        unsure = Answers(np.tile(np.array([0.4, 0.3, 0.3]), (9, 1)), np.zeros(9))
        assert distinction(unsure) == pytest.approx(0, abs=1e-9)
        assert confidence(unsure) == pytest.approx(0.4)

    def test_logits_are_taken_for_what_they_stand_for(self) -> None:
        logits = RNG.normal(size=(30, 5)) * 3
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        one, other = Answers(logits, np.zeros(30)), Answers(shares, np.zeros(30))
        assert distinction(one) == pytest.approx(distinction(other))
        assert confidence(one) == pytest.approx(confidence(other))
        assert confidence(Answers(logits * 1e30, np.zeros(30))) == pytest.approx(1)
