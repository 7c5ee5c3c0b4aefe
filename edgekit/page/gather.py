"""Gather: what a page shows, asked of a store in as few rows as do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.page.axis import DAY_S, MOST_DEVICE_SLICES, MOST_SLICES, resolution
from edgekit_runtime.windows import STAGES

if TYPE_CHECKING:
    from edgekit.store import Alert, Seen, Slice, Store, Summary

CALL = "call"
REPORT_S = 30 * DAY_S


@dataclass(frozen=True)
class Found:
    """Calls of all devices together, their stages, and calls of each device, in longer steps where these are many.

    ``fleet`` and ``summaries`` are of all times.
    """

    start_s: float
    end_s: float
    whole: tuple[Slice, ...] = ()
    parts: tuple[Slice, ...] = ()
    each: tuple[Slice, ...] = ()
    fleet: tuple[Seen, ...] = ()
    alerts: tuple[Alert, ...] = ()
    summaries: tuple[Summary, ...] = ()

    @property
    def devices(self) -> set[str]:
        return {one.device for one in self.each}


def gather(store: Store, names: Sequence[str] | None, now_s: float) -> Found:
    """The last REPORT_S up to the last window of these devices, all without names. Raises: EdgekitError."""
    fleet = store.fleet()
    if names is not None and {seen.device for seen in fleet} <= set(names):
        names = None
    end = min(now_s, max((seen.last_s for seen in fleet if names is None or seen.device in names), default=now_s))
    start = max(0.0, end - REPORT_S)
    days = store.slices(start, end, seconds=DAY_S, devices=names)
    first_day = max(start, min((one.start_s for one in days), default=start))
    hours = store.slices(first_day, min(first_day + DAY_S, end), seconds=3600, devices=names)
    return between(store, max(start, min((one.start_s for one in hours), default=start)), end, names)


def lately(store: Store, now_s: float) -> Found:
    """The last day, with little of each device: for a page that is made again and again. Raises: EdgekitError."""
    return between(store, now_s - DAY_S, now_s, most=0)


def between(
    store: Store, start_s: float, end_s: float, names: Sequence[str] | None = None, most: int = MOST_DEVICE_SLICES
) -> Found:
    """All of it between two moments; of each device at most so many slices, or days. Raises: EdgekitError."""
    fleet, summaries = tuple(store.fleet()), tuple(store.summaries(names))
    fleet = tuple(seen for seen in fleet if names is None or seen.device in names)
    coarse = resolution(end_s - start_s, len({seen.device for seen in fleet}), most)
    each = tuple(store.slices(start_s, end_s, seconds=coarse, devices=names))
    alerts = worst_first(alert for alert in store.alerts() if names is None or alert.device in names)
    if names is not None:  # the store has sums of all, but not of some
        parts = store.slices(start_s, end_s, seconds=coarse, devices=names, stages=STAGES)
        return Found(start_s, end_s, each, tuple(parts), each, fleet, alerts, summaries)
    fine = resolution(end_s - start_s, 1, MOST_SLICES)
    found = store.slices(start_s, end_s, seconds=fine, together=True, stages=(CALL, *STAGES))
    whole, parts = ([one for one in found if (one.stage == CALL) == calls] for calls in (True, False))
    return Found(start_s, end_s, tuple(whole), tuple(parts), each, fleet, alerts, summaries)


def worst_first(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Those that are critical, then the others; each the newest first."""
    return tuple(sorted(alerts, key=lambda alert: (alert.level != "critical", -alert.at_s)))
