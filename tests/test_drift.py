"""The population stability index, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import drift
from edgekit_watch import calibration

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12)


def key(name: str, shares: list[int], counts: list[int]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(counts), f"expected:{name}": tuple(shares)}


def test_by_hand() -> None:
    """A fifth of the calls moved from one half to the other: 0.2 (ln 0.7/0.5 + ln 0.5/0.3)."""
    assert drift.psi([0.5, 0.5], [3000, 7000]) == pytest.approx(0.2 * (np.log(1.4) + np.log(5 / 3)), rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(COUNTS, st.data())
def test_it_is_never_negative_and_zero_for_the_same(shares: list[int], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 10**6), min_size=len(shares), max_size=len(shares)))
    assert drift.psi(shares, counts) >= 0
    assert drift.psi(shares, [10**4 * n for n in shares]) < 0.01
    assert drift.psi(counts, shares) >= 0


def test_nothing_was_counted() -> None:
    assert drift.psi([0.5, 0.5], [0, 0]) == drift.psi([0, 0], [5, 5]) == 0
    with pytest.raises(ValueError, match="zip"):
        drift.psi([0.5, 0.5], [1, 2, 3])


def test_it_stays_low_for_as_few_calls_as_it_speaks_of() -> None:
    """Yurdakul and Naranjo: the mean is (bins - 1) / calls."""
    rng = np.random.default_rng(0)
    drawn = [drift.psi([0.2] * 5, rng.multinomial(drift.LEAST_CALLS, [0.2] * 5).tolist()) for _ in range(500)]
    assert np.mean(drawn) == pytest.approx(4 / drift.LEAST_CALLS, rel=0.15)
    assert np.quantile(drawn, 0.99) < drift.MODERATE


def test_nothing_is_said_of_few_calls() -> None:
    few, many = drift.LEAST_CALLS - 1, drift.LEAST_CALLS
    assert drift.scores(key("confidence:y", [5000, 5000], [0, few])) == {}
    assert drift.scores(key("confidence:y", [5000, 5000], [0, many]))["confidence:y"] > drift.LARGE
    assert drift.scores(key("input:x", [5000, 5000], [0, drift.LEAST_VALUES - 1])) == {}
    assert drift.worst(key("input:x", [5000, 5000], [0, many])) is None
    assert drift.LEAST_VALUES > drift.LEAST_CALLS * calibration.PLACES * 0.75


def test_windows_merge_by_adding() -> None:
    one = key("entropy:y", [2500, 7500], [100, 200])
    three = {name: tuple(3 * n for n in counts) for name, counts in one.items()}
    assert drift.scores(three)["entropy:y"] == pytest.approx(drift.scores(one)["entropy:y"], abs=0.002)


def test_a_device_may_say_anything() -> None:
    assert drift.scores({"input:x": (10**9,)}) == {}
    assert drift.scores(key("input:x", [1, 2, 3], [10**6, 10**6])) == {}
    assert drift.scores({"expected:input:x": (10**9,)}) == {}


def test_shares_of_what_was_looked_at() -> None:
    counters = {"inputs_checked": 1000, "inputs_clipped": 30, "shadow_runs": 40, "shadow_agreed": 39}
    assert drift.clipped(counters) == {"inputs": 0.03}
    assert drift.clipped({}) == {}
    assert drift.agreement(counters) == 39 / 40
    assert drift.agreement({"shadow_runs": 3, "shadow_agreed": 3}) is None


def test_in_words() -> None:
    told = {**key("input:x", [5000, 5000], [20000, 0]), **key("confidence:y", [5000, 5000], [320, 680])}
    counters = {"inputs_checked": 1000, "inputs_clipped": 30, "outputs_checked": 1000}
    moved, slightly, clipped, same = drift.describe(told, {**counters, "shadow_runs": 40, "shadow_agreed": 39})
    assert moved.startswith("input:x: not what the model was calibrated for (PSI ")
    assert slightly == "confidence:y: has moved (PSI 0.14)"
    assert (clipped, same) == ("inputs: 3.0% of values clipped", "agrees with its float twin in 97.5%")
    assert drift.describe({}, {}) == []
