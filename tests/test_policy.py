from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import policy
from edgekit.policy import Calls, Look, Tally

RELEASE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
QUICK, SLOW = 690, 720
"""Buckets of about 1 ms and 1.8 ms."""
counts = st.integers(0, 50)
tallies = st.builds(Tally, counts, st.lists(st.text(min_size=1), max_size=50).map(tuple), counts, counts)


def calls(quick: int = 0, slow: int = 0, errors: int = 0) -> Calls:
    buckets = {index: number for index, number in ((QUICK, quick), (SLOW, slow)) if number}
    return Calls(buckets, {"engine": errors} if errors else {})


def told(now: Calls, before: Calls) -> str:
    return "; ".join(policy.faults(Look(RELEASE, now=now, before=before), RELEASE))


class TestFaults:
    @pytest.mark.parametrize(
        ("now", "before"),
        [
            (calls(), calls()),
            (calls(1000), calls(1000)),
            (calls(1000), calls()),
            (calls(1000), calls(slow=1000)),
            (calls(960, 40), calls(1000)),
            (calls(3, 1), calls(1000)),  # too few to tell
            (calls(1000, errors=8), calls(1000)),
            (calls(2, errors=1), calls(2, errors=1)),
            (calls(900, errors=100), calls(900, errors=100)),
        ],
    )
    def test_as_good_as_before_or_nothing_to_tell_by(self, now: Calls, before: Calls) -> None:
        assert told(now, before) == ""

    @pytest.mark.parametrize(
        ("now", "before", "line"),
        [
            (calls(1000, errors=50), calls(1000), "50 of 1050 calls failed, 0.00% before"),
            (calls(1000, errors=50), calls(), "50 of 1050 calls failed, 0.00% before"),
            (calls(errors=4), calls(1000, errors=10), "4 of 4 calls failed, 0.99% before"),
            (calls(900, 100), calls(1000), "p95 is 1.78 ms, 0.975 ms before"),
            (calls(slow=1000, errors=99), calls(1000), "99 of 1099 calls failed, 0.00% before; p95 is 1.78 ms"),
        ],
    )
    def test_worse_than_before(self, now: Calls, before: Calls, line: str) -> None:
        assert told(now, before).startswith(line)

    def test_another_release_is_live(self) -> None:
        assert policy.faults(Look(OTHER), RELEASE) == (f"{OTHER[:19]} is live there now",)
        assert policy.faults(Look(None), RELEASE) == ("nothing is live there now",)
        assert policy.faults(Look(OTHER, left="crash loop"), RELEASE) == (
            "the device left the release by itself: crash loop",
        )

    def test_a_device_that_went_silent(self) -> None:
        assert policy.faults(Look(None, silent="no answer"), RELEASE) == (
            "the device does not answer since the push: no answer",
        )

    @given(counts, counts, counts)
    def test_a_release_is_never_worse_than_itself(self, quick: int, slow: int, errors: int) -> None:
        one = calls(quick, slow, errors)
        assert told(one, one) == ""


class TestDecisions:
    @given(tallies, st.integers(1, 9), st.floats(0.001, 1), st.booleans())
    def test_a_wave_passes_unless_too_many_failed_or_nobody_showed_anything(
        self, tally: Tally, wave: int, limit: float, last: bool
    ) -> None:
        decision = policy.decide(wave, tally, limit, last=last)
        few = tally.failed == 0 if wave == 1 else tally.failed <= limit * tally.size
        assert decision.go == (few and (tally.passed > 0 or last))
        assert decision.reasons[-tally.failed or len(decision.reasons) :] == tally.failures
        assert any(reason.startswith("halted: ") for reason in decision.reasons) >= (not decision.go)

    @given(tallies, st.integers(1, 9), st.floats(0.001, 1))
    def test_what_is_lost_stays_lost_whatever_the_waiting_ones_do(self, tally: Tally, wave: int, limit: float) -> None:
        if policy.too_many(tally, wave, limit):
            happy = replace(tally, passed=tally.passed + tally.waiting, waiting=0)
            assert not policy.decide(wave, happy, limit).go

    def test_the_canary_may_not_fail_at_all(self) -> None:
        assert policy.decide(1, Tally(9, ("x: y",)), 0.5).reasons == (
            "9 of 10 devices passed, 1 failed, 0 offline",
            "halted: any failure in the first wave",
            "x: y",
        )
        assert policy.decide(2, Tally(9, ("x: y",)), 0.1).go
        assert not policy.decide(2, Tally(8, ("x: y", "z: y")), 0.1).go


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bounds_of_a_share_hold_it(seen: tuple[int, int]) -> None:
    low, high = policy.bounds(*seen)
    assert 0 <= low <= seen[0] / seen[1] + 1e-9
    assert seen[0] / seen[1] - 1e-9 <= high <= 1


def test_the_bounds_are_those_of_the_book() -> None:
    """Wilson's for 10 of 100, and no knowledge without a call."""
    assert policy.bounds(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert policy.bounds(0, 0) == (0.0, 1.0)
