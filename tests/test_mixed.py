from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.quantization.mixed import ALONE, Sensitivity, fewest, noisiest, ranked

LAYERS = "abcdefgh"
layer_sets = st.frozensets(st.sampled_from(LAYERS), min_size=1)
rankings = st.permutations(LAYERS).flatmap(lambda names: st.integers(1, 8).map(lambda count: names[:count]))

Holds = Callable[[frozenset[str]], bool]


class Asked:
    """Answers, and writes down what it was asked."""

    def __init__(self, holds: Holds) -> None:
        self.holds, self.questions = holds, list[frozenset[str]]()

    def __call__(self, kept: frozenset[str]) -> bool:
        self.questions.append(kept)
        return self.holds(kept)


def every_set(names: list[str]) -> list[frozenset[str]]:
    """From the smallest to the largest, and not the empty one."""
    return [frozenset(each) for size in range(1, len(names) + 1) for each in combinations(names, size)]


@given(rankings, layer_sets)
def test_where_certain_layers_are_at_fault_just_these_are_kept(ranking: list[str], guilty: frozenset[str]) -> None:
    found = fewest(ranking, lambda kept: guilty <= kept)
    assert found == (guilty if guilty <= set(ranking) else None)


@given(rankings, st.lists(layer_sets, min_size=1, max_size=4))
def test_of_any_monotone_answer_none_can_be_left_out(ranking: list[str], enough: list[frozenset[str]]) -> None:
    """``holds`` is monotone where any of some sets is enough: the found set is a minimal one, as brute force says."""

    def holds(kept: frozenset[str]) -> bool:
        return any(each <= kept for each in enough)

    found, all_that_hold = fewest(ranking, holds), [each for each in every_set(ranking) if holds(each)]
    assert (found is None) == (not all_that_hold)
    if found is not None:
        assert found in all_that_hold
        assert not any(each < found for each in all_that_hold)


@given(rankings, st.dictionaries(st.sampled_from(LAYERS), st.integers(1, 9), min_size=8), st.integers(1, 60))
def test_where_harm_adds_up_and_is_ranked_the_count_is_the_least(
    ranking: list[str], harm: dict[str, int], allowed: int
) -> None:
    worst = sorted(ranking, key=lambda name: -harm[name])

    def holds(kept: frozenset[str]) -> bool:
        return sum(harm[name] for name in worst if name not in kept) <= allowed

    found = fewest(worst, holds)
    assert found is not None
    assert len(found) == min(len(each) for each in every_set(worst) if holds(each))


@given(rankings, st.sets(layer_sets))
def test_what_is_given_holds_whatever_the_answers(ranking: list[str], good: set[frozenset[str]]) -> None:
    found = fewest(ranking, lambda kept: kept in good)
    assert found is None or found in good


@given(st.integers(1, 300), st.integers(1, 300))
def test_few_questions_are_asked(count: int, needed: int) -> None:
    ranking = [str(index) for index in range(count)]
    asked = Asked(lambda kept: frozenset(ranking[:needed]) <= kept and needed <= count)
    found = fewest(ranking, asked)
    assert len(found or ()) == (needed if needed <= count else 0)
    assert len(asked.questions) <= 2 * math.ceil(math.log2(count + 1)) + 1 + len(found or ()) + min(needed, ALONE)
    assert len(set(asked.questions)) == len(asked.questions)


@pytest.mark.parametrize("enough", "bcdefgh")
def test_one_layer_is_found_where_it_is_enough_though_others_rank_before_it(enough: str) -> None:
    """And whatever else is kept beside it spoils it, as chance may have it."""
    assert fewest(LAYERS, lambda kept: kept in (frozenset(enough), frozenset(LAYERS))) == frozenset(enough)


def test_where_nothing_is_enough_it_is_known_soon() -> None:
    asked = Asked(lambda kept: False)
    assert fewest([str(index) for index in range(100)], asked) is None
    assert [len(each) for each in asked.questions] == [1, 2, 4, 8, 16, 32, 64, 100]


def test_without_layers_there_is_nothing_to_keep() -> None:
    assert ranked((), lambda kept: 0.0) == ()
    assert fewest((), lambda kept: False) is None


@given(st.dictionaries(st.text(), st.floats(-200, 200)))
def test_the_noisiest_have_no_less_noise_than_any_other(noise_db: dict[str, float]) -> None:
    found = noisiest(noise_db)
    assert len(found) == min(len(noise_db), ALONE)
    assert all(noise_db[one] <= noise_db[other] for one in found for other in noise_db.keys() - set(found))


class TestRanked:
    def test_each_layer_alone_is_quantized_and_the_worst_stands_first(self) -> None:
        harm = {"a": 30.0, "b": -5.0, "c": 12.5}

        def sqnr_db(kept: frozenset[str]) -> float:
            (alone,) = set("abc") - kept
            return harm[alone]

        assert ranked("abc", sqnr_db) == (Sensitivity("b", -5.0), Sensitivity("c", 12.5), Sensitivity("a", 30.0))

    def test_equals_stay_in_the_order_of_computation(self) -> None:
        assert [each.layer for each in ranked("cab", lambda kept: 1.0)] == ["c", "a", "b"]
