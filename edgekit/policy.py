"""Policy: whether a rollout goes on after a wave, and what a device must show for it. Values in, a decision out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edgekit_runtime.histogram import percentile

MAX_FAILED = 0.1
"""Of each wave after the canary, unless somebody says otherwise."""
ERRORS_RISE = 0.01
LATENCY_RISE = 1.25
SLOWEST = 0.05
Z = 1.96
"""What calls show is believed only if it would come by chance less than once in forty times."""


@dataclass(frozen=True)
class Calls:
    """What was counted of a release on one device: as in ``edgekit_runtime.windows.Window``."""

    buckets: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def number(self) -> int:
        return sum(self.buckets.values()) + self.failed


@dataclass(frozen=True)
class Look:
    """A device, looked at some time after the push: what is live, and what was counted of both releases.

    ``left`` says why the device left the release by itself, ``silent`` why it could not be asked.
    """

    live: str | None
    left: str | None = None
    silent: str | None = None
    now: Calls = Calls()
    before: Calls = Calls()


@dataclass(frozen=True)
class Tally:
    """The devices of a wave, by what has become of them; of each that failed, a line."""

    passed: int = 0
    failures: tuple[str, ...] = ()
    offline: int = 0
    waiting: int = 0

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def size(self) -> int:
        return self.passed + self.failed + self.offline + self.waiting


@dataclass(frozen=True)
class Decision:
    """After a wave, counted from 1: go on or halt, and why."""

    wave: int
    go: bool
    reasons: tuple[str, ...]
    at_s: float = 0.0


def faults(look: Look, release: str) -> tuple[str, ...]:
    """What speaks against a release on a device that took it; nothing where all is well, or nobody called it."""
    if look.silent:
        return (f"the device does not answer since the push: {look.silent}",)
    if look.left:
        return (f"the device left the release by itself: {look.left}",)
    if look.live != release:
        return (f"{look.live[:19] if look.live else 'nothing'} is live there now",)
    return tuple(filter(None, (_more_errors(look.now, look.before), _slower(look.now, look.before))))


def too_many(tally: Tally, wave: int, max_failed: float) -> bool:
    """Whether so many devices of a wave have failed already that it cannot pass: in the canary, one."""
    return tally.failed > (0 if wave == 1 else max_failed * tally.size)


def decide(wave: int, tally: Tally, max_failed: float, *, last: bool = False) -> Decision:
    """After a wave of which nothing is under way any more.

    Devices that are offline are no failures; but a wave of which nobody answered has shown nothing to the next one.
    """
    counts = f"{tally.passed} of {tally.size} devices passed, {tally.failed} failed, {tally.offline} offline"
    if too_many(tally, wave, max_failed):
        limit = "any failure in the first wave" if wave == 1 else f"more than {max_failed * 100:g}% of a wave failed"
        return Decision(wave, False, (counts, f"halted: {limit}", *tally.failures))
    if not tally.passed and not last:
        return Decision(wave, False, (counts, "halted: no device of the wave has shown anything", *tally.failures))
    return Decision(wave, True, (counts, *tally.failures))


def bounds(hits: float, number: int) -> tuple[float, float]:
    """Between which shares the true one lies, when ``hits`` of ``number`` were seen (Wilson, JASA 1927)."""
    if not number:
        return 0.0, 1.0
    rate, weight = hits / number, Z * Z / number
    middle = (rate + weight / 2) / (1 + weight)
    reach = Z * math.sqrt(rate * (1 - rate) / number + weight / (4 * number)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _more_errors(now: Calls, before: Calls) -> str | None:
    had = before.failed / before.number if before.number else 0.0
    if bounds(now.failed, now.number)[0] <= had + ERRORS_RISE:
        return None
    return f"{now.failed} of {now.number} calls failed, {had:.2%} before"


def _slower(now: Calls, before: Calls) -> str | None:
    """Whether more than one call in twenty takes longer than p95 did before and a quarter more, and more than then."""
    if not now.buckets or not before.buckets:
        return None
    limit = percentile(before.buckets, 1 - SLOWEST) * LATENCY_RISE
    if _late(now.buckets, limit)[0] <= max(SLOWEST, _late(before.buckets, limit)[1]):
        return None
    p95, had = (percentile(calls.buckets, 1 - SLOWEST) / 1e6 for calls in (now, before))
    return f"p95 is {p95:.3g} ms, {had:.3g} ms before"


def _late(buckets: dict[int, int], limit_ns: float) -> tuple[float, float]:
    """The bounds of the share of calls that took longer."""
    late = sum(count for index, count in buckets.items() if percentile({index: 1}, 0.5) > limit_ns)
    return bounds(late, sum(buckets.values()))
