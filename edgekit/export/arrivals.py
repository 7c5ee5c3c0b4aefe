"""Arrivals: windows in the order in which they came to the store, and how far whoever passes them on has come.

Not by when they were measured: a device that was away for weeks brings old ones, and each is to be passed on once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, Row, String, Table, select, tuple_

from edgekit.store import METADATA
from edgekit.store.clock import Clock, ends
from edgekit.store.engine import upsert
from edgekit.store.tables import SERIES, SESSIONS, WINDOWS
from edgekit.store.tally import unpack_window
from edgekit_runtime.windows import Window

SETTLED_S = 60.0
"""What came less long ago waits: somebody who began to store before may not be done yet."""
EXPORTS = Table(
    "exports",
    METADATA,
    Column("place", String(80), primary_key=True),
    Column("received_s", Float, nullable=False),
    Column("session", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
)


@dataclass(frozen=True)
class Mark:
    """The last window that was passed on: when it came, and which one it was of those that came with it."""

    received_s: float = 0.0
    session: int = 0
    seq: int = -1


@dataclass(frozen=True)
class Arrival:
    """``end_s`` is by the host's clock, as far as that is known."""

    device: str
    window: Window
    end_s: float
    mark: Mark

    @property
    def start_s(self) -> float:
        return self.end_s - (self.window.end_s - self.window.start_s)


def mark(connection: Connection, place: str) -> Mark:
    """How far it has come; the very beginning for one that was never told."""
    row = connection.execute(select(EXPORTS).where(EXPORTS.c.place == place)).one_or_none()
    return Mark(row.received_s, row.session, row.seq) if row else Mark()


def remember(connection: Connection, place: str, last: Mark) -> None:
    upsert(connection, EXPORTS, [{"place": place, **vars(last)}])


def after(connection: Connection, last: Mark, now_s: float, most: int) -> list[Arrival]:
    """The next ones, in order."""
    own = WINDOWS.c.received_s, WINDOWS.c.session, WINDOWS.c.seq
    names = SERIES.c.device, SERIES.c.app, SERIES.c.release, SESSIONS.c.session.label("name")
    query = (
        select(WINDOWS, *names)
        .join(SERIES, SERIES.c.id == WINDOWS.c.series)
        .join(SESSIONS, SESSIONS.c.id == WINDOWS.c.session)
        .where(WINDOWS.c.received_s.between(last.received_s, now_s - SETTLED_S))
        .where(tuple_(*own) > tuple_(last.received_s, last.session, last.seq))
        .order_by(*own)
        .limit(most)
    )
    rows = connection.execute(query).all()
    return [each for _, some in groupby(rows, lambda row: row.received_s) for each in _together(list(some))]


def _together(rows: Sequence[Row[Any]]) -> Iterator[Arrival]:
    """Those that came at one moment."""
    windows = [_window(row) for row in rows]
    for row, window, end_s in zip(rows, windows, ends(windows, Clock(rows[0].received_s)), strict=True):
        yield Arrival(row.device, window, end_s, Mark(row.received_s, row.session, row.seq))


def _window(row: Row[Any]) -> Window:
    counted, stages, conditions = unpack_window(row.body)
    told = (counted.buckets, counted.errors, stages, counted.counters, conditions, counted.drift)
    return Window(row.app, row.release, row.name, row.seq, row.start_s, row.end_s, *told)
