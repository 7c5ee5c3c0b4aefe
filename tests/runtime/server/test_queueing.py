"""The line of calls: who is next, who goes along, who is too late, and how many rows a run takes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.errors import Overloaded
from edgekit_server.queueing import MOST_ROWS, Call, Pace, Queue

KINDS = st.sampled_from([None, "small", "large"])
CALLS = st.builds(
    Call,
    ticket=st.uuids(),
    kind=KINDS,
    rows=st.integers(1, 5),
    priority=st.integers(0, 4),
    deadline_s=st.sampled_from([math.inf, 1.0, 3.0]),
)


def line_of(*calls: Call) -> Queue:
    line = Queue(64)
    for call in calls:
        line.put(call)
    return line


def known(seconds: dict[int, float], budget_s: float = math.inf) -> Pace:
    """A pace that has seen such runs."""
    pace = Pace(budget_s)
    for rows, each in [*seconds.items()] * 2:
        pace.ran(rows, each)
    return pace


def order(line: Queue, pace: Pace | None = None) -> list[list[object]]:
    groups = []
    while group := line.take(0.0, pace or Pace(most=1)):
        groups.append([call.ticket for call in group])
    return groups


class TestOrder:
    def test_it_is_that_of_arrival(self) -> None:
        assert order(line_of(*(Call(number) for number in range(5)))) == [[0], [1], [2], [3], [4]]

    def test_one_goes_before_those_that_say_nothing_and_three_after_them(self) -> None:
        calls = [Call("background", priority=3), Call("plain"), Call("two", priority=2), Call("urgent", priority=1)]
        assert order(line_of(*calls)) == [["urgent"], ["plain"], ["two"], ["background"]]

    def test_as_many_as_may_wait(self) -> None:
        line = Queue(2)
        line.put(Call(1))
        line.put(Call(2))
        with pytest.raises(Overloaded, match="2 calls wait already"):
            line.put(Call(3))
        assert line.take(0.0, Pace())
        line.put(Call(3))
        assert order(line) == [[2], [3]]

    def test_those_whose_time_is_over_are_told_once(self) -> None:
        line = line_of(Call("soon", deadline_s=1.0), Call("ever"), Call("later", deadline_s=3.0))
        assert line.late(0.5) == []
        assert [call.ticket for call in line.late(1.0)] == ["soon"]
        assert line.late(1.0) == []
        assert order(line) == [["ever"], ["later"]]

    @given(st.lists(CALLS, max_size=40), st.floats(0, 5))
    def test_each_call_comes_out_once(self, calls: list[Call], now: float) -> None:
        line, pace = line_of(*calls), Pace()
        seen = line.late(now)
        assert all(call.deadline_s <= now for call in seen)
        while group := line.take(now, pace):
            rows = sum(call.rows for call in group)
            assert len(group) == 1 or (group[0].kind is not None and rows <= MOST_ROWS)
            assert {call.kind for call in group} == {group[0].kind}
            pace.ran(rows, 0.001 + rows * 0.0001)
            seen += group
        assert len(line) == 0
        assert sorted(call.ticket for call in seen) == sorted(call.ticket for call in calls)


class TestTogether:
    FAST = known({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.3, 16: 1.4, 32: 1.5})

    def test_calls_of_the_kind_of_the_first(self) -> None:
        kinds = ["a", "b", "a", None, "a", "b", "a"]
        line = line_of(*(Call(number, kind) for number, kind in enumerate(kinds)))
        assert order(line, self.FAST) == [[0, 2, 4, 6], [1, 5], [3]]

    def test_a_call_of_many_rows_is_not_cut(self) -> None:
        line = line_of(Call("big", "a", 50), Call("small", "a", 1))
        assert order(line, self.FAST) == [["big"], ["small"]]

    def test_those_that_still_fit(self) -> None:
        line = line_of(Call("one", "a", 3), Call("wide", "a", 6), Call("two", "a", 1), Call("three", "a", 4))
        assert order(line, self.FAST) == [["one", "two", "three"], ["wide"]]

    def test_the_urgent_takes_others_along(self) -> None:
        line = line_of(Call("plain", "a"), Call("other", "b"), Call("urgent", "a", priority=1))
        assert order(line, self.FAST) == [["urgent", "plain"], ["other"]]


class TestPace:
    def test_nothing_is_known_at_first(self) -> None:
        assert Pace().rows(32) == 1

    def test_sizes_are_tried_one_after_the_other_and_counted_from_the_second_run_on(self) -> None:
        pace, seen = Pace(), []
        for _ in range(12):
            seen.append(pace.rows(40))
            pace.ran(seen[-1], 1.0 if seen.count(seen[-1]) > 1 else 99.0)
        assert seen == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32]
        assert pace.rows(40) == 32
        assert pace.rows(5) == 4

    def test_rows_that_gain_nothing_run_alone(self) -> None:
        assert known({1: 1.0, 2: 1.9, 4: 3.7}).rows(4) == 1

    def test_a_run_keeps_within_the_budget(self) -> None:
        times = {1: 1.0, 2: 1.2, 4: 1.6, 8: 2.4}
        assert [known(times, budget).rows(8) for budget in (0.5, 1.3, 2.0, 9.0)] == [1, 2, 4, 8]

    def test_a_run_keeps_within_what_the_first_call_has_left(self) -> None:
        assert known({1: 1.0, 2: 1.2, 4: 1.6}).rows(4, spare_s=1.5) == 2

    def test_a_size_that_would_take_too_long_is_not_tried(self) -> None:
        assert known({1: 1.0}, 1.9).rows(2) == 1
        assert known({1: 1.0}, 2.0).rows(2) == 2

    def test_a_size_that_once_was_slow_is_tried_again(self) -> None:
        pace = known({1: 1.0, 2: 4.0})
        assert 2 in [pace.rows(2) for _ in range(2000)]

    def test_one_run_that_is_slow_by_chance_changes_nothing(self) -> None:
        pace = known({1: 1.0, 2: 1.2, 4: 1.6})
        for place in range(50):
            assert pace.rows(4) == 4
            pace.ran(4, 3.0 if place % 10 == 9 else 1.6)

    def test_a_pace_that_changes_is_followed(self) -> None:
        pace = known({1: 1.0, 2: 1.1, 4: 1.2})
        for _ in range(100):
            rows = pace.rows(4)
            pace.ran(rows, rows**2)  # larger runs have become slow
        assert pace.rows(4) == 1

    @pytest.mark.parametrize("disturbed", [False, True])
    @pytest.mark.parametrize(
        ("run", "row", "change"), [(0.0, 1.0, 0.5), (0.2, 1.0, 0.5), (1.0, 1.0, 1.0), (5.0, 1.0, 0.0)]
    )
    def test_it_comes_near_to_the_best_size(self, run: float, row: float, change: float, disturbed: bool) -> None:
        """Eight always wait; a run costs something, each row too, and another size than before also."""
        pace, chance, last, done, spent = Pace(), random.Random(0), 0, 0, 0.0
        for _ in range(3000):
            size = pace.rows(8)
            seconds = run + row * size + (change if size != last else 0.0)
            slower = chance.uniform(1, 8) if disturbed and chance.random() < 0.2 else 1.0
            pace.ran(size, seconds * slower)
            spent, done, last = spent + seconds, done + size, size
        best = max(size / (run + row * size) for size in (1, 2, 4, 8))
        assert done / spent > 0.93 * best

    def test_a_model_whose_rows_may_not_meet(self) -> None:
        pace = Pace(most=1)
        for _ in range(5):
            assert pace.rows(9) == 1
            pace.ran(1, 1.0)

    @given(
        st.dictionaries(st.integers(1, 200), st.floats(0, 10), max_size=8),
        st.integers(1, 200),
        st.floats(0, 10) | st.just(math.inf),
    )
    def test_it_is_never_more_than_wait(self, seconds: dict[int, float], waiting: int, budget_s: float) -> None:
        assert 1 <= known(seconds, budget_s).rows(waiting) <= min(waiting, MOST_ROWS)
