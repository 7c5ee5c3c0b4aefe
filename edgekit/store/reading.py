"""Reading: what dashboards, rules and people ask of what was counted."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Row, select

from edgekit.store import tally
from edgekit.store.engine import chunks
from edgekit.store.facts import ALL, CALL, Seen, Slice, Summary
from edgekit.store.tables import DEVICES, SERIES, SESSIONS, SLICES
from edgekit_runtime.histogram import percentile

MOST_SESSIONS = 5000
"""Sessions that a device is told about: the last ones. What it sends of others is passed over when it comes."""


@dataclass(frozen=True)
class Question:
    """Which slices: between two moments, and of which series; None for all."""

    start_s: float
    end_s: float
    seconds: int
    app: str | None = None
    devices: tuple[str, ...] | None = None
    releases: tuple[str, ...] | None = None
    stages: tuple[str, ...] = (CALL,)


def slices(connection: Connection, asked: Question) -> list[Slice]:
    """By start, then device."""
    series = {row.id: row for row in _series(connection, asked)}
    found: list[Slice] = []
    with _uncollected():
        for row in _rows(connection, asked, series):
            found += _slices(series[row[0]], asked, row)
        found.sort(key=lambda each: (each.start_s, each.device))
    return found


def summaries(connection: Connection, devices: Iterable[str] | None) -> list[Summary]:
    """One a device, app and release, in the order of their first windows."""
    asked = Question(0, 0, 0, devices=None if devices is None else tuple(devices))
    rows = sorted(_series(connection, asked), key=lambda row: (row.device, row.app, row.first_s))
    return [_summary(row) for row in rows if row.last_s]


def fleet(connection: Connection) -> list[Seen]:
    """Each device's newest release of each app, in the order of their names."""
    newest: dict[tuple[str, str], Row[Any]] = {}
    for row in _series(connection, Question(0, 0, 0)):
        key = row.device, row.app
        if key not in newest or newest[key].last_s < row.last_s:
            newest[key] = row
    return [_seen(newest[key]) for key in sorted(newest)]


def have(connection: Connection, device: str) -> dict[str, int]:
    """The last window that was counted of each of a device's last sessions."""
    own = select(SESSIONS.c.session, SESSIONS.c.last_seq).where(SESSIONS.c.device == device, SESSIONS.c.last_seq >= 0)
    rows = connection.execute(own.order_by(SESSIONS.c.heard_s.desc()).limit(MOST_SESSIONS))
    return {row.session: row.last_seq for row in rows}


def heard(connection: Connection) -> dict[str, float]:
    """When each device last brought windows, by the host's clock."""
    return {row.device: row.heard_s for row in connection.execute(select(DEVICES))}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Ten thousands of tables make the collector look at all of them again and again: half as long once more."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _series(connection: Connection, asked: Question) -> Iterator[Row[Any]]:
    """Of ALL devices only where that is asked for by its name."""
    query = select(SERIES)
    if asked.app is not None:
        query = query.where(SERIES.c.app == asked.app)
    if asked.releases is not None:
        query = query.where(SERIES.c.release.in_(asked.releases))
    if asked.devices is None:
        yield from connection.execute(query.where(SERIES.c.device != ALL))
        return
    for some in chunks(asked.devices):
        yield from connection.execute(query.where(SERIES.c.device.in_(some)))


def _rows(connection: Connection, asked: Question, series: Iterable[int]) -> Iterator[Any]:
    columns: list[Column[Any]] = [SLICES.c.series, SLICES.c.start_s, SLICES.c.tally]
    if set(asked.stages) != {CALL}:
        columns.append(SLICES.c.stages)
    first = asked.start_s // asked.seconds * asked.seconds
    among = (SLICES.c.seconds == asked.seconds) & (SLICES.c.start_s >= first) & (SLICES.c.start_s < asked.end_s)
    for some in chunks(series):
        yield from connection.execute(select(*columns).where(SLICES.c.series.in_(some), among))


def _slices(series: Any, asked: Question, row: Any) -> Iterator[Slice]:
    own = (row[1], asked.seconds, series.device, series.app, series.release)
    if CALL in asked.stages:
        told = tally.unpack(row[2])
        conditions = {name: (low, total / n, high) for name, (low, total, high, n) in told.conditions.items()}
        yield Slice(*own, CALL, told.buckets, told.errors, told.counters, conditions, told.drift, series.emulated)
    if len(row) > 3:
        for stage, buckets in tally.unpack_stages(row[3]).items():
            if stage in asked.stages:
                yield Slice(*own, stage, buckets, emulated=series.emulated)


def _summary(row: Row[Any]) -> Summary:
    told = tally.unpack(row.tally)
    times = told.buckets and not row.emulated
    p50, p95, p99 = (percentile(told.buckets, share) / 1e6 if times else None for share in (0.5, 0.95, 0.99))
    calls, names = sum(told.buckets.values()), (row.device, row.app, row.release)
    return Summary(*names, calls, p50, p95, p99, told.errors, row.first_s, row.last_s, row.emulated)


def _seen(row: Row[Any]) -> Seen:
    told, conditions = tally.unpack(row.tally), tally.unpack_conditions(row.conditions)
    calls, errors = sum(told.buckets.values()), sum(told.errors.values())
    return Seen(row.device, row.app, row.release, row.first_s, row.last_s, calls, errors, conditions)
