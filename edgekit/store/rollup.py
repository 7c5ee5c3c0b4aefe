"""Roll-up: windows are added to what was counted of a series in all, and in each slice of 5 minutes, hour and day.

Each window is counted once, into its five minutes; hours are made of those, days of hours. That sum is then added to
what the database has, of the device and of ALL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, select, update

from edgekit.store import tally
from edgekit.store.engine import chunks, upsert
from edgekit.store.tables import SERIES, SLICES
from edgekit.store.tally import Stages, Tally
from edgekit_runtime.windows import Window

LENGTHS = (300, 3600, 86400)
WINDOW_S = 60.0

Key = tuple[int, int]
"""A slice's length and begin, in seconds."""


@dataclass
class Part:
    """What was counted in a slice."""

    tally: Tally = field(default_factory=Tally)
    stages: Stages = field(default_factory=dict)

    def take(self, other: Part) -> None:
        self.tally.take(other.tally)
        tally.count_stages(self.stages, other.stages)


@dataclass
class Sum:
    """What windows of a series come to; ``conditions``: the last ones that were told, and when (0: never)."""

    first_s: float
    last_s: float
    total: Tally = field(default_factory=Tally)
    parts: dict[Key, Part] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    told_s: float = 0.0


def summed(windows: Sequence[Window], ends: Sequence[float]) -> Sum:
    """``ends``: when each of them ended, by the host's clock."""
    begins = [end - (window.end_s - window.start_s) for window, end in zip(windows, ends, strict=True)]
    total = Sum(min(begins), max(ends))
    for window, end in zip(windows, ends, strict=True):
        key = LENGTHS[0], slot(window, end)
        total.parts.setdefault(key, Part()).take(Part(tally.of(window), window.stages))
        if window.conditions and end >= total.told_s:
            total.conditions, total.told_s = window.conditions, end
    for shorter, longer in pairwise(LENGTHS):
        _lengthen(total.parts, shorter, longer)
    for (seconds, _), part in total.parts.items():
        if seconds == LENGTHS[-1]:
            total.total.take(part.tally)
    return total


def _lengthen(parts: dict[Key, Part], shorter: int, longer: int) -> None:
    for (seconds, start), part in list(parts.items()):
        if seconds == shorter:
            parts.setdefault((longer, start // longer * longer), Part()).take(part)


def slot(window: Window, end_s: float) -> int:
    """The begin of its five minutes: those of the middle of its last minute, for a window may be of an idle day."""
    last_minute = min(window.end_s - window.start_s, WINDOW_S)
    return int((end_s - last_minute / 2) // LENGTHS[0]) * LENGTHS[0]


def add(connection: Connection, series: int, more: Sum) -> None:
    """Count more of a series; until the end of the transaction others wait to do so."""
    own = SERIES.c.id == series
    row = connection.execute(select(SERIES).where(own).with_for_update()).one()
    connection.execute(update(SERIES).where(own).values(_in_all(row, more)))
    parts = dict(more.parts)
    for key, kept in _kept(connection, series, sorted(parts)):
        kept.take(parts[key])
        parts[key] = kept
    upsert(connection, SLICES, _rows(series, parts))


def _in_all(row: Any, more: Sum) -> dict[str, Any]:
    total = tally.unpack(row.tally)
    total.take(more.total)
    return {
        "first_s": min(row.first_s, more.first_s) if row.last_s else more.first_s,
        "last_s": max(row.last_s, more.last_s),
        "tally": tally.pack(total),
        "conditions": tally.pack(more.conditions) if 0 < more.told_s >= row.last_s else row.conditions,
    }


def _kept(connection: Connection, series: int, keys: Sequence[Key]) -> Iterator[tuple[Key, Part]]:
    """A question for each length, and not one for all: databases would read the whole series for that."""
    columns = (SLICES.c.start_s, SLICES.c.tally, SLICES.c.stages)
    for length in LENGTHS:
        own = (SLICES.c.series == series) & (SLICES.c.seconds == length)
        for some in chunks(start for seconds, start in keys if seconds == length):
            for row in connection.execute(select(*columns).where(own, SLICES.c.start_s.in_(some))):
                yield (length, row.start_s), Part(tally.unpack(row.tally), tally.unpack_stages(row.stages))


def _rows(series: int, parts: dict[Key, Part]) -> Iterator[dict[str, Any]]:
    for (seconds, start), part in parts.items():
        own = {"series": series, "seconds": seconds, "start_s": start}
        yield {**own, "tally": tally.pack(part.tally), "stages": tally.pack(part.stages)}
