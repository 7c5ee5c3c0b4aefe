"""Trend: how latency went lately, of each release on each device: a row of p95, the stages, the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgekit.store import CALL, Slice, Store, Summary
from edgekit.store.rollup import LENGTHS
from edgekit_runtime.histogram import percentile, summed
from edgekit_runtime.windows import STAGES

SLOTS = 24
BARS = "▁▂▃▄▅▆▇█"

Key = tuple[str, str, str, bool]


@dataclass(frozen=True)
class Span:
    """SLOTS slices of so many seconds each."""

    start_s: float
    seconds: int

    @property
    def end_s(self) -> float:
        return self.start_s + SLOTS * self.seconds


@dataclass(frozen=True)
class Trend:
    """``p95_ms`` of whole calls, a value a slot, None for one without a call; ``stages_ms``: p95 of each over all.

    ``conditions``: the least, the mean and the most; the mean is one of slices.
    """

    span: Span
    p95_ms: tuple[float | None, ...]
    stages_ms: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def spans(first_s: float, last_s: float) -> list[Span]:
    """The finest one that reaches from the first moment to the last, and coarser ones; or a coarsest that does not."""
    long_enough = [each for each in LENGTHS if last_s - first_s <= (SLOTS - 1) * each] or [LENGTHS[-1]]
    return [Span((last_s // seconds - SLOTS + 1) * seconds, seconds) for seconds in long_enough]


def read(store: Store, summaries: Sequence[Summary]) -> dict[Key, Trend]:
    """Of what the summaries are of, over a span for all: the finest that is still kept. Raises: EdgekitError."""
    if not summaries:
        return {}
    devices, stages = sorted({each.device for each in summaries}), (CALL, *STAGES)
    for over in spans(min(each.first_s for each in summaries), max(each.last_s for each in summaries)):
        slices = store.slices(over.start_s, over.end_s, seconds=over.seconds, devices=devices, stages=stages)
        if slices:
            return trends(slices, over)
    return {}


def trends(slices: Iterable[Slice], over: Span) -> dict[Key, Trend]:
    groups: dict[Key, list[Slice]] = {}
    for each in slices:
        groups.setdefault((each.device, each.app, each.release, each.emulated), []).append(each)
    return {key: _trend(group, over) for key, group in groups.items()}


def _trend(slices: Sequence[Slice], over: Span) -> Trend:
    calls = {int(each.start_s - over.start_s) // over.seconds: each for each in slices if each.stage == CALL}
    stages = {name: summed(each.buckets for each in slices if each.stage == name) for name in STAGES}
    return Trend(
        over,
        tuple(_p95_ms(calls[slot].buckets) if slot in calls else None for slot in range(SLOTS)),
        {name: value for name, buckets in stages.items() if (value := _p95_ms(buckets)) is not None},
        _conditions(calls.values()),
    )


def _p95_ms(buckets: dict[int, int]) -> float | None:
    return percentile(buckets, 0.95) / 1e6 if buckets else None


def _conditions(slices: Iterable[Slice]) -> dict[str, tuple[float, float, float]]:
    told: dict[str, list[tuple[float, float, float]]] = {}
    for each in slices:
        for name, value in each.conditions.items():
            told.setdefault(name, []).append(value)
    return {
        name: (min(v[0] for v in values), sum(v[1] for v in values) / len(values), max(v[2] for v in values))
        for name, values in told.items()
    }


def sparkline(values: Sequence[float | None]) -> str:
    """A bar a value, from the least one to the most, or to a quarter more, that noise is no mountain; None: a blank."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(*known, min(known) * 1.25)
    step = (high - low) / (len(BARS) - 1)
    return "".join(" " if value is None else BARS[round((value - low) / step) if step else 0] for value in values)
