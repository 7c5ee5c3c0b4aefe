"""Percentiles with their intervals: against what is known of simulated latencies."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.bench.percentiles import BLOCKS, SHARES, Buckets, percentile_of, percentiles
from edgekit_runtime.histogram import GAMMA, index, summed

SPREAD = 0.2
"""Latencies are lognormal, a millisecond in the median."""
RUNS, CALLS = 40, 4000
BUCKETS = st.dictionaries(st.integers(0, 2500), st.integers(1, 1000), min_size=1, max_size=5)
PARTS = st.lists(BUCKETS, min_size=1, max_size=50)


def true_ms(share: float) -> float:
    return math.exp(SPREAD * NormalDist().inv_cdf(share))


def parts_of(latencies_ns: NDArray[Any], number: int) -> list[Buckets]:
    found = []
    for part in np.array_split(np.ceil(np.log(latencies_ns) / math.log(GAMMA)).astype(int), number):
        buckets, counts = np.unique(part, return_counts=True)
        found.append(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))
    return found


def runs(alike: float) -> NDArray[Any]:
    """A run a row: an autoregressive series, ``alike`` the correlation of a call with the next."""
    noise = np.random.default_rng(1).normal(size=(RUNS, CALLS))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for call in range(1, CALLS):
        series[:, call] = alike * series[:, call - 1] + math.sqrt(1 - alike**2) * noise[:, call]
    return np.exp(SPREAD * series) * 1e6


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_intervals_hold_the_truth_also_where_calls_are_alike(alike: float) -> None:
    held = dict.fromkeys(SHARES, 0)
    for run in runs(alike):
        for name, found in percentiles(parts_of(run, 40)).items():
            assert found
            held[name] += (found.low or 0) <= true_ms(SHARES[name]) <= (found.high or math.inf)
    assert all(number >= 0.9 * RUNS for number in held.values()), held


def test_an_interval_for_independent_calls_would_not() -> None:
    """What the blocks are for: with as many blocks as there are calls, half of the intervals miss the median."""
    held = 0
    for run in runs(0.9):
        below = np.sort(run) / 1e6
        half = 1.96 * math.sqrt(CALLS) / 2
        held += below[int(CALLS / 2 - half)] <= true_ms(0.5) <= below[int(CALLS / 2 + half)]
    assert held < 0.7 * RUNS


@settings(max_examples=40)
@given(PARTS)
def test_a_percentile_lies_within_its_interval(parts: list[Buckets]) -> None:
    found = [each for each in percentiles(parts).values() if each]
    for each in found:
        assert (each.low or 0) <= each.ms <= (each.high or math.inf)
    assert [each.ms for each in found] == sorted(each.ms for each in found)


@settings(max_examples=20)
@given(BUCKETS, st.integers(1, 10))
def test_only_neighbours_are_put_together(buckets: Buckets, times: int) -> None:
    """Parts that are all alike say the same, in however many pieces they come."""
    few, many = [buckets] * BLOCKS, [buckets] * (BLOCKS * times)
    assert percentiles([summed(many[at * times : at * times + times]) for at in range(BLOCKS)]) == percentiles(many)
    found, other = percentile_of(few, 0.5), percentile_of(many, 0.5)
    assert (found and found.ms) == (other and other.ms)


def test_what_so_few_calls_do_not_tell() -> None:
    one = percentiles([{index(1_000_000): 1}])
    assert one == {"p50": None, "p95": None, "p99": None}
    ten = percentiles([{index(call * 1_000_000): 1} for call in range(1, 11)])
    assert ten["p95"] is ten["p99"] is None
    assert ten["p50"]
    assert 1 <= (ten["p50"].low or 0) < 5 < (ten["p50"].high or 0) <= 10.2
    pair = percentiles([{index(1_000_000): 2}])["p50"]
    assert pair
    assert pair.low is pair.high is None
    hundred = percentiles([{index(1_000_000): 10}] * 10)["p99"]
    assert hundred
    assert hundred.high is None
