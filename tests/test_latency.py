from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.building.latency import Latency, latency_of


def test_of_one_call() -> None:
    assert latency_of([2 * 10**6]) == Latency(2.0, 2.0, 2.0, 2.0)


def test_the_median_lies_between_its_order_statistics() -> None:
    """Of 100 calls the median lies, at 95 %, between the 41st and the 60th (W. J. Conover, table A3)."""
    found = latency_of([index * 10**6 for index in range(1, 101)])
    assert (found.p50, found.p50_low, found.p50_high) == (50.5, 41.0, 60.0)
    assert found.p95 == pytest.approx(95.05)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_in_any_order(times: list[int]) -> None:
    found = latency_of(times)
    assert found == latency_of(sorted(times))
    assert min(times) / 1e6 <= found.p50_low + 1e-4
    assert found.p50_low - 1e-4 <= found.p50 <= found.p50_high + 1e-4
    assert found.p50_high <= max(times) / 1e6 + 1e-4
    assert found.p50 <= found.p95


def test_the_interval_holds_the_median_of_the_distribution_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    times = (rng.lognormal(size=(400, 240)) * 10**9).astype(np.int64)
    found = [latency_of(list(each)) for each in times]
    assert 0.92 < np.mean([each.p50_low <= 1e3 <= each.p50_high for each in found]) < 0.98
