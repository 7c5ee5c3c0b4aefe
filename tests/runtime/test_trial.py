"""Trial: the rule by itself, facts in and a decision out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime.trial import CONFIRM, KEEP, LEAVE, Decision, Facts, TrialPolicy, decide, policy

POLICY = TrialPolicy(max_p95_ms=50.0)
FACTS = st.builds(
    Facts,
    failed_starts=st.integers(0, 6),
    calls=st.integers(0, 400),
    errors=st.integers(0, 40),
    p95_ms=st.one_of(st.just(math.nan), st.floats(0.01, 500)),
    seconds=st.floats(0, 2000),
    has_previous=st.booleans(),
)


@pytest.mark.parametrize(
    ("facts", "verdict", "code"),
    [
        (Facts(), KEEP, ""),
        (Facts(failed_starts=2), KEEP, ""),
        (Facts(failed_starts=3), LEAVE, "failed_starts"),
        (Facts(failed_starts=3, calls=100, p95_ms=1), LEAVE, "failed_starts"),
        (Facts(failed_starts=3, has_previous=False), KEEP, "failed_starts"),
        (Facts(calls=99, p95_ms=1), KEEP, ""),
        (Facts(calls=100, p95_ms=1), CONFIRM, ""),
        (Facts(calls=1, p95_ms=1, seconds=600), CONFIRM, ""),
        (Facts(calls=1, p95_ms=1, seconds=599), KEEP, ""),
        (Facts(seconds=6000), KEEP, ""),
        (Facts(calls=0, errors=19), KEEP, ""),
        (Facts(calls=0, errors=20), LEAVE, "error_rate"),
        (Facts(calls=18, errors=1, p95_ms=1, seconds=900), KEEP, ""),
        (Facts(calls=99, errors=1, p95_ms=1, seconds=900), CONFIRM, ""),
        (Facts(calls=98, errors=2, p95_ms=1), LEAVE, "error_rate"),
        (Facts(calls=98, errors=2, p95_ms=1, has_previous=False), KEEP, "error_rate"),
        (Facts(calls=99, p95_ms=51), KEEP, ""),
        (Facts(calls=100, p95_ms=51), LEAVE, "latency"),
        (Facts(calls=100, p95_ms=51, has_previous=False), KEEP, "latency"),
        (Facts(calls=100, p95_ms=50), CONFIRM, ""),
        (Facts(calls=20, p95_ms=51, seconds=600), LEAVE, "latency"),
        (Facts(calls=19, p95_ms=51, seconds=600), CONFIRM, ""),
    ],
    ids=str,
)
def test_the_rule(facts: Facts, verdict: str, code: str) -> None:
    found = decide(facts, POLICY)
    assert (found.verdict, found.code) == (verdict, code)
    assert bool(found.reason) == bool(code)
    assert ("no confirmed release to go back to" in found.reason) == (bool(code) and verdict == KEEP)


@given(FACTS)
def test_what_is_wrong_is_never_confirmed_and_never_leaves_without_a_way_back(facts: Facts) -> None:
    found = decide(facts, POLICY)
    if found.code:
        assert found.verdict == (LEAVE if facts.has_previous else KEEP)
    if found.verdict == CONFIRM:
        assert facts.failed_starts < POLICY.failed_starts
        assert facts.calls > 0
        assert facts.errors <= POLICY.error_rate * (facts.calls + facts.errors)
        assert facts.calls < POLICY.least_calls or not facts.p95_ms > POLICY.max_p95_ms


@given(FACTS, st.integers(1, 5))
def test_more_failures_never_make_it_better(facts: Facts, more: int) -> None:
    order = (CONFIRM, KEEP, LEAVE)
    now = order.index(decide(facts, POLICY).verdict)
    worse = replace(facts, failed_starts=facts.failed_starts + more)
    assert order.index(decide(worse, POLICY).verdict) >= (now if facts.has_previous else 0)
    if decide(facts, POLICY).code:
        assert decide(worse, POLICY).code


@given(FACTS)
def test_a_trial_in_service_ends(facts: Facts) -> None:
    """With a way back and enough calls there is an answer."""
    served = replace(facts, calls=facts.calls + POLICY.inferences, has_previous=True)
    assert decide(served, POLICY).verdict != KEEP


def test_the_budget_limits_latency() -> None:
    assert policy({"max_p95_ms": 12, "max_size_mib": 3}) == TrialPolicy(max_p95_ms=12)
    for odd in ({}, {"max_p95_ms": "12"}, {"max_p95_ms": None}, {"max_p95_ms": True}):
        assert policy(odd) == TrialPolicy()
    assert decide(Facts(calls=100, p95_ms=1e9), TrialPolicy()) == Decision(CONFIRM)


def test_a_person_reads_how_long_it_takes() -> None:
    assert str(TrialPolicy()) == "100 inferences or 10 minutes of service"
