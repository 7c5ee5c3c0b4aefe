"""Latencies: percentiles that can be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime.histogram import GAMMA, index, merge, percentile
from edgekit_runtime.windows import Window
from tests.runtime.values import BUCKETS

WINDOW = Window("app", "sha256:00", "s", 7, 1.5, 2.5)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0]) | st.floats(0, 1)
LATENCIES = st.lists(st.floats(0, 14).map(lambda power: round(10**power)), min_size=1, max_size=200)
"""From a nanosecond to more than a day, any order of magnitude as likely as another."""


def histogram(latencies: Sequence[int]) -> dict[int, int]:
    return dict(Counter(map(index, latencies)))


@settings(deadline=None)
@given(LATENCIES, SHARES)
def test_percentiles_are_within_one_percent_of_the_exact_ones(latencies: list[int], share: float) -> None:
    exact = sorted(max(latency, 1) for latency in latencies)[int(share * (len(latencies) - 1))]
    assert percentile(histogram(latencies), share) == pytest.approx(exact, rel=0.01 + 1e-9)


@given(LATENCIES)
def test_every_call_is_counted(latencies: list[int]) -> None:
    assert sum(histogram(latencies).values()) == len(latencies)


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile({}, 0.5))


@given(st.lists(st.builds(partial(replace, WINDOW), buckets=BUCKETS), max_size=5), st.randoms())
def test_merging_is_associative_and_commutative(windows: list[Window], random: Any) -> None:
    cut = random.randint(0, len(windows))
    parts = [replace(WINDOW, buckets=merge(part)) for part in (windows[:cut], windows[cut:])]
    assert merge(parts) == merge(windows)
    assert merge(random.sample(windows, len(windows))) == merge(windows)


@settings(deadline=None)
@given(LATENCIES, LATENCIES, SHARES)
def test_two_windows_merged_are_one_window_of_both(one: list[int], other: list[int], share: float) -> None:
    windows = [replace(WINDOW, buckets=histogram(part)) for part in (one, other)]
    assert percentile(merge(windows), share) == percentile(histogram(one + other), share)


def test_the_buckets_are_those_of_the_paper() -> None:
    """DDSketch: index i holds (γ^(i-1), γ^i]."""
    for latency in (1, 2, 1000, 10**6, 10**9):
        bucket = index(latency)
        assert GAMMA ** (bucket - 1) * (1 - 1e-9) < latency <= GAMMA**bucket * (1 + 1e-9)
