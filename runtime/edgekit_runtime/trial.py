"""Trial: whether a release that serves for the first time is good, goes back, or goes on being tried; pure.

As Mender, RAUC and greenboot do with systems: a start is counted before it begins, a release is confirmed only after
it has served well, and three starts that failed are enough to leave it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KEEP, CONFIRM, LEAVE = "keep", "confirm", "leave"


@dataclass(frozen=True)
class TrialPolicy:
    """What a release has to show. ``inferences`` or ``seconds`` of service confirm it, whichever comes first.

    ``error_rate`` is a share of the calls, and judged from ``least_calls`` on; so is the 95th percentile, where the
    budget has a limit for it, when the trial would end. A start is well after ``healthy_s``, or when it ends cleanly.
    """

    failed_starts: int = 3
    inferences: int = 100
    seconds: float = 600.0
    least_calls: int = 20
    error_rate: float = 0.01
    max_p95_ms: float = math.inf
    healthy_s: float = 60.0

    def __str__(self) -> str:
        return f"{self.inferences} inferences or {self.seconds / 60:g} minutes of service"


@dataclass(frozen=True)
class Facts:
    """What a trial has seen: ``calls`` that succeeded, ``errors``; ``p95_ms`` is NaN without any and in an emulator."""

    failed_starts: int = 0
    calls: int = 0
    errors: int = 0
    p95_ms: float = math.nan
    seconds: float = 0.0
    has_previous: bool = True


@dataclass(frozen=True)
class Decision:
    """``verdict``: keep, confirm or leave; ``code`` and ``reason``: what is wrong, also where there is no way back."""

    verdict: str
    code: str = ""
    reason: str = ""


def policy(budget: Mapping[str, object]) -> TrialPolicy:
    """The defaults, with what the budget of a manifest limits."""
    limit = budget.get("max_p95_ms")
    if isinstance(limit, (int, float)) and not isinstance(limit, bool):
        return replace(TrialPolicy(), max_p95_ms=limit)
    return TrialPolicy()


def decide(facts: Facts, policy: TrialPolicy) -> Decision:
    """Leave when something is wrong and there is a release to go back to, confirm after enough service, else keep."""
    code, reason = _wrong(facts, policy)
    if code and not facts.has_previous:
        return Decision(KEEP, code, f"{reason}; no confirmed release to go back to")
    if code:
        return Decision(LEAVE, code, reason)
    return Decision(CONFIRM if _served(facts, policy) and not _too_many_errors(facts, policy) else KEEP)


def _wrong(facts: Facts, policy: TrialPolicy) -> tuple[str, str]:
    calls = facts.calls + facts.errors
    if facts.failed_starts >= policy.failed_starts:
        return "failed_starts", f"{facts.failed_starts} starts failed"
    if calls < policy.least_calls:
        return "", ""
    if _too_many_errors(facts, policy):
        return "error_rate", f"{facts.errors} of {calls} calls failed, {policy.error_rate:.0%} may"
    if _served(facts, policy) and facts.p95_ms > policy.max_p95_ms:
        return "latency", f"p95 is {facts.p95_ms:.4g} ms, the budget is {policy.max_p95_ms:.4g} ms"
    return "", ""


def _served(facts: Facts, policy: TrialPolicy) -> bool:
    return facts.calls >= policy.inferences or (facts.calls > 0 and facts.seconds >= policy.seconds)


def _too_many_errors(facts: Facts, policy: TrialPolicy) -> bool:
    return facts.errors > policy.error_rate * (facts.calls + facts.errors)
