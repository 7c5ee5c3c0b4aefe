"""Metrics: what a rule may be about, read from what a device told of a release; each with the bounds of chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit import drift
from edgekit.advice.serving import Served
from edgekit.policy import bounds
from edgekit.store.facts import CALL, Seen, Slice
from edgekit_runtime.histogram import percentile, summed

HOUR_S = 3600.0
PLACES = 64
"""Values of a tensor that a device looks at in a call (``edgekit_watch.calibration``); they have much in common."""


@dataclass(frozen=True)
class Reading:
    """A value, and between which the true one lies at 95 % confidence; ``number``: of how many calls or samples."""

    value: float
    low: float
    high: float
    number: int


@dataclass(frozen=True)
class Looked:
    """A release on a device: what was counted of it lately, and of the release before it there."""

    seen: Seen
    now_s: float
    slices: Sequence[Slice] = ()
    before: Sequence[Slice] = ()
    served: Served | None = None


@dataclass(frozen=True)
class Metric:
    """``told``: a value as words have it; ``read``: None where the device told nothing of it."""

    read: Callable[[Looked], Reading | None]
    told: str


def quantile(slices: Iterable[Slice], share: float) -> Reading | None:
    """Milliseconds of whole calls, none of them emulated; bounds by the order statistics between Wilson's bounds."""
    buckets = summed(each.buckets for each in slices if each.stage == CALL and not each.emulated)
    number = sum(buckets.values())
    if not number:
        return None
    value, low, high = (percentile(buckets, each) / 1e6 for each in (share, *bounds(share * number, number)))
    return Reading(value, low, high, number)


def ratio(now: Reading | None, before: Reading | None) -> Reading | None:
    """How many times as much it is, in the worst and the best case of both."""
    if not now or not before or not before.low > 0:
        return None
    value, low, high = now.value / before.value, now.low / before.high, now.high / before.low
    return Reading(value, low, high, min(now.number, before.number))


def _latency(share: float) -> Callable[[Looked], Reading | None]:
    return lambda looked: quantile(looked.slices, share)


def _p95_rise(looked: Looked) -> Reading | None:
    return ratio(quantile(looked.slices, 0.95), quantile(looked.before, 0.95))


def _p95_of_budget(looked: Looked) -> Reading | None:
    allowed = looked.served.max_p95_ms if looked.served else None
    return ratio(quantile(looked.slices, 0.95), Reading(allowed, allowed, allowed, 1 << 62) if allowed else None)


def _error_rate(looked: Looked) -> Reading | None:
    calls = [each for each in looked.slices if each.stage == CALL]
    failed = sum(sum(each.errors.values()) for each in calls)
    return _share(failed, failed + sum(sum(each.buckets.values()) for each in calls))


def _share(hits: float, number: int) -> Reading | None:
    return Reading(hits / number, *bounds(hits, number), number) if number else None


def _drift(looked: Looked) -> Reading | None:
    """Of the series that drifted most. What is too few to tell, ``drift.scores`` leaves out."""
    calls = [each for each in looked.slices if each.stage == CALL and each.drift]
    found = drift.worst(_added(each.drift for each in calls))
    if found is None:
        return None
    return Reading(found[1], found[1], found[1], sum(sum(each.buckets.values()) for each in calls))


def _added(tables: Iterable[Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """By series; of one whose bins changed, which no release does, the last."""
    total: dict[str, tuple[int, ...]] = {}
    for table in tables:
        for name, counts in table.items():
            known = total.get(name, ())
            total[name] = tuple(map(sum, zip(known, counts, strict=True))) if len(known) == len(counts) else counts
    return total


def _clipped(looked: Looked) -> Reading | None:
    """Of the inputs or of the outputs, whichever are clipped more; the values of one call are taken for one."""
    counters = {name: number / PLACES for name, number in _counters(looked).items()}
    both = (_part(counters, f"{what}_clipped", f"{what}_checked") for what in ("inputs", "outputs"))
    return max((each for each in both if each), key=lambda each: each.low, default=None)


def _agreement(looked: Looked) -> Reading | None:
    return _part(_counters(looked), "shadow_agreed", "shadow_runs")


def _counters(looked: Looked) -> dict[str, int]:
    return summed(each.counters for each in looked.slices if each.stage == CALL)


def _part(counters: Mapping[str, float], some: str, of: str) -> Reading | None:
    """A share; of a device that counts more of some than there were, all."""
    number = int(counters.get(of, 0))
    return _share(min(counters.get(some, 0), number), number)


def _condition(name: str) -> Callable[[Looked], Reading | None]:
    def read(looked: Looked) -> Reading | None:
        told = [
            (each.conditions[name][1], sum(each.buckets.values())) for each in looked.slices if name in each.conditions
        ]
        mean = math.fsum(value for value, _ in told) / len(told) if told else math.nan
        return Reading(mean, mean, mean, sum(number for _, number in told)) if told else None

    return read


def _silent(looked: Looked) -> Reading:
    hours = max(0.0, looked.now_s - looked.seen.last_s) / HOUR_S
    return Reading(hours, hours, hours, looked.seen.count + looked.seen.errors)


METRICS = {
    "p50_ms": Metric(_latency(0.5), "p50 is {:.3g} ms"),
    "p95_ms": Metric(_latency(0.95), "p95 is {:.3g} ms"),
    "p99_ms": Metric(_latency(0.99), "p99 is {:.3g} ms"),
    "p95_rise": Metric(_p95_rise, "p95 is {:.3g} times that of the release before"),
    "p95_of_budget": Metric(_p95_of_budget, "p95 is {:.3g} times the budget"),
    "error_rate": Metric(_error_rate, "{:.2%} of the calls failed"),
    "drift": Metric(_drift, "inputs or answers have drifted: PSI {:.2f}"),
    "clipped_share": Metric(_clipped, "{:.2%} of the values are beyond the calibrated range"),
    "shadow_agreement": Metric(_agreement, "agrees with float on {:.2%}"),
    "temperature_c": Metric(_condition("temperature_c"), "{:.1f} °C"),
    "throttled_share": Metric(_condition("throttled"), "throttled for {:.0%} of the time"),
    "silent_h": Metric(_silent, "has told nothing for {:.0f} h"),
}
"""By the names that policy.toml has for them."""
