"""When a run is steady: runs of which that is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bench.steady import LEAST, steady

NOISE = np.random.default_rng(3).normal(scale=0.01, size=120)


def test_a_run_that_never_changed_is_used_whole() -> None:
    assert steady([5.0] * 120).start == 0
    assert steady(list(5 * (1 + NOISE))).start <= 12


def test_a_device_that_throttles_after_three_of_ten_minutes() -> None:
    level = np.where(np.arange(120) < 36, 5.0, 8.0) * (1 + NOISE)
    found = steady(list(level))
    assert 36 <= found.start <= 45
    assert found.settled


def test_one_that_throttles_on_and_off_is_steady_in_that() -> None:
    level = np.where(np.arange(120) // 6 % 2, 5.0, 8.0) * (1 + NOISE)
    assert steady(list(level)).settled


def test_one_that_throttles_at_the_end_and_one_that_gets_slower_all_the_time_have_not_settled() -> None:
    for moment in (80, 100):
        found = steady(list(np.where(np.arange(120) < moment, 5.0, 8.0) * (1 + NOISE)))
        assert moment <= found.start <= moment + 10
        assert not found.settled
    assert not steady(list(np.linspace(5, 8, 120))).settled


def test_a_percent_is_no_change() -> None:
    assert steady([5.0] * 60 + [5.04] * 60).start == 0


@settings(max_examples=40)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200))
def test_there_is_always_an_end(medians: list[float]) -> None:
    found = steady(medians)
    assert 0 <= found.start < len(medians)
    assert len(medians) - found.start >= min(len(medians), LEAST)
    assert found.settled == (found.start <= len(medians) / 2)
