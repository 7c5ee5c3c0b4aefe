"""Retention: how long what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from edgekit.store.tables import ALERTS, OPEN, SCHEMA, SERIES, SESSIONS, SLICES, WINDOWS

DAY_S = 86400.0


@dataclass(frozen=True)
class Keep:
    """For how many days; slices of a day and what was counted in all are kept for good."""

    windows: float = 14
    five_minutes: float = 60
    hours: float = 730
    alerts: float = 730
    """Those that are closed."""


def due(connection: Connection, now_s: float) -> bool:
    """Whether a day has passed since the last time; if so, it is this caller's task now."""
    stale = ~SCHEMA.c.pruned_s.between(now_s - DAY_S, now_s)
    return connection.execute(update(SCHEMA).where(stale).values(pruned_s=now_s)).rowcount > 0


def prune(connection: Connection, now_s: float, keep: Keep) -> None:
    """Forget what is older. That a window has been counted is remembered as long as slices of hours are."""
    old = WINDOWS.c.received_s < now_s - keep.windows * DAY_S
    last = select(WINDOWS.c.session, func.max(WINDOWS.c.seq).label("seq")).where(old).group_by(WINDOWS.c.session)
    for row in connection.execute(last).all():
        connection.execute(update(SESSIONS).where(SESSIONS.c.id == row.session).values(pruned_seq=row.seq))
    connection.execute(delete(WINDOWS).where(old))
    for seconds, days in ((300, keep.five_minutes), (3600, keep.hours)):
        gone = (SLICES.c.seconds == seconds) & (SLICES.c.start_s < now_s - days * DAY_S)
        connection.execute(delete(SLICES).where(SLICES.c.series.in_(select(SERIES.c.id)), gone))
    connection.execute(delete(ALERTS).where(ALERTS.c.closed_s.between(OPEN + 1, now_s - keep.alerts * DAY_S)))
    silent = SESSIONS.c.heard_s < now_s - max(keep.hours, keep.windows) * DAY_S
    connection.execute(delete(SESSIONS).where(silent))
