"""Alerting: the book of alerts; what is one is decided elsewhere. One is open at a time of a rule for a release."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from edgekit.store.facts import Alert
from edgekit.store.tables import ALERTS, OPEN

_KEY = ("device", "app", "release", "rule")
_COLUMNS = [ALERTS.c[each.name] for each in fields(Alert)]


def alerts(connection: Connection, open_only: bool) -> list[Alert]:
    """Newest first."""
    query = select(*_COLUMNS).order_by(ALERTS.c.at_s.desc(), ALERTS.c.id.desc())
    rows = connection.execute(query.where(ALERTS.c.closed_s == OPEN) if open_only else query)
    return [Alert(*row) for row in rows]


def opened(connection: Connection, raised: Iterable[Alert]) -> list[Alert]:
    """Those that were not open; of the others what they say now is kept, and since when it is so stays."""
    new = []
    for alert in raised:
        news = {"level": alert.level, "value": alert.value, "threshold": alert.threshold, "told": alert.told}
        if not connection.execute(update(ALERTS).where(_open(alert)).values(news)).rowcount:
            connection.execute(insert(ALERTS).values(**asdict(alert), closed_s=OPEN))
            new.append(alert)
    return new


def closed(connection: Connection, over: Iterable[Alert], now_s: float) -> int:
    """How many of them were open."""
    close = [update(ALERTS).where(_open(alert)).values(closed_s=now_s) for alert in over]
    return sum(connection.execute(each).rowcount for each in close)


def _open(alert: Alert) -> ColumnElement[bool]:
    return and_(ALERTS.c.closed_s == OPEN, *(ALERTS.c[name] == getattr(alert, name) for name in _KEY))
