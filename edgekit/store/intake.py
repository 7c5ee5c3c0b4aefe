"""Intake: windows that are new are kept and counted, all in one transaction, so that each counts exactly once.

Who stores for a device first takes that device's row, and so waits for whoever stores for it now; what is of ALL
devices comes last and in order, so that nobody waits long and no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, update

from edgekit.store import rollup, tally
from edgekit.store.clock import Clock, ends
from edgekit.store.engine import chunks, insert_new, upsert
from edgekit.store.facts import ALL
from edgekit.store.tables import DEVICES, SERIES, SESSIONS, WINDOWS
from edgekit_runtime.windows import Window

MOST_SERIES = 1000
"""Releases of all apps on one device; what a device reports of further ones is not kept."""


class Named(NamedTuple):
    """What tells a series from others."""

    device: str
    app: str
    release: str
    emulated: bool


def store(connection: Connection, device: str, windows: Iterable[Window], clock: Clock) -> int:
    """How many were new."""
    upsert(connection, DEVICES, [{"device": device, "heard_s": clock.now_s}])
    batch = {(window.session, window.seq): window for window in windows}
    sessions = _sessions(connection, device, {session for session, _ in batch}, clock)
    new = _new(connection, batch, sessions)
    series = _series(connection, _names(device, new))
    kept = [window for window in new if _named(device, window) in series]
    if kept:
        _keep(connection, kept, [series[_named(device, window)] for window in kept], sessions, clock)
        _count(connection, device, kept, series, clock)
    return len(kept)


def _sessions(connection: Connection, device: str, names: set[str], clock: Clock) -> dict[str, Row[Any]]:
    """The rows of sessions, made where there were none."""
    own, rest = SESSIONS.c.device == device, {"last_seq": -1, "pruned_seq": -1, "heard_s": clock.now_s}
    insert_new(connection, SESSIONS, [{"device": device, "session": name, **rest} for name in sorted(names)])
    found: dict[str, Row[Any]] = {}
    for some in chunks(names):
        for row in connection.execute(select(SESSIONS).where(own, SESSIONS.c.session.in_(some))):
            found[row.session] = row
    return found


def _new(connection: Connection, batch: dict[tuple[str, int], Window], sessions: dict[str, Row[Any]]) -> list[Window]:
    """Those windows that are not kept, nor were and have been pruned."""
    if not batch:
        return []
    seqs = [seq for _, seq in batch]
    among = WINDOWS.c.seq.between(min(seqs), max(seqs))
    kept: set[tuple[int, int]] = set()
    for some in chunks(row.id for row in sessions.values()):
        known = connection.execute(select(WINDOWS.c.session, WINDOWS.c.seq).where(WINDOWS.c.session.in_(some), among))
        kept.update((row.session, row.seq) for row in known)
    return [
        window
        for (session, seq), window in batch.items()
        if seq > sessions[session].pruned_seq and (sessions[session].id, seq) not in kept
    ]


def _named(device: str, window: Window) -> Named:
    return Named(device, window.app, window.release, window.emulated)


def _names(device: str, windows: Iterable[Window]) -> list[Named]:
    """The series that windows belong to, with those of ALL devices; none of them for an emulator's."""
    own = sorted({_named(device, window) for window in windows})
    return own + [name._replace(device=ALL) for name in own if not name.emulated]


def _series(connection: Connection, names: Sequence[Named]) -> dict[Named, int]:
    """The ids of series, made where there are none yet and the device may have more."""
    known: dict[Named, int] = {}
    for device in sorted({name.device for name in names}):
        known |= _known(connection, device)
        room = MOST_SERIES - sum(name.device == device for name in known)
        lacking = [name for name in names if name.device == device and name not in known]
        made = lacking if device == ALL else lacking[: max(room, 0)]
        empty = {"first_s": 0.0, "last_s": 0.0, "tally": tally.pack(tally.Tally()), "conditions": tally.pack({})}
        insert_new(connection, SERIES, [{**name._asdict(), **empty} for name in made])
        if made:
            known |= _known(connection, device)
    return known


def _known(connection: Connection, device: str) -> dict[Named, int]:
    columns = (SERIES.c.id, SERIES.c.device, SERIES.c.app, SERIES.c.release, SERIES.c.emulated)
    rows = connection.execute(select(*columns).where(SERIES.c.device == device))
    return {Named(row.device, row.app, row.release, row.emulated): row.id for row in rows}


def _keep(
    connection: Connection, windows: list[Window], series: list[int], sessions: dict[str, Row[Any]], clock: Clock
) -> None:
    rows = [
        {
            "session": sessions[window.session].id,
            "seq": window.seq,
            "series": number,
            "start_s": window.start_s,
            "end_s": window.end_s,
            "received_s": clock.now_s,
            "body": tally.pack_window(window),
        }
        for window, number in zip(windows, series, strict=True)
    ]
    connection.execute(WINDOWS.insert(), rows)
    last: dict[int, int] = {}
    for row in rows:
        last[row["session"]] = max(last.get(row["session"], -1), row["seq"])
    for number, seq in last.items():
        highest = func.max if connection.dialect.name == "sqlite" else func.greatest
        news = {"last_seq": highest(SESSIONS.c.last_seq, seq), "heard_s": clock.now_s}
        connection.execute(update(SESSIONS).where(SESSIONS.c.id == number).values(news))


def _count(connection: Connection, device: str, windows: list[Window], series: dict[Named, int], clock: Clock) -> None:
    groups: dict[Named, list[tuple[Window, float]]] = {}
    for window, end in zip(windows, ends(windows, clock), strict=True):
        groups.setdefault(_named(device, window), []).append((window, end))
    sums = {name: rollup.summed(*zip(*group, strict=True)) for name, group in groups.items()}
    for name in sorted(sums):
        rollup.add(connection, series[name], sums[name])
    of_all = {series[name._replace(device=ALL)]: counted for name, counted in sums.items() if not name.emulated}
    for number in sorted(of_all):
        rollup.add(connection, number, of_all[number])
