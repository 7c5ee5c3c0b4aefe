"""Which devices have told of times that cannot be: their clocks were wrong, whatever the store made of that."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select

from edgekit.rules.metrics import HOUR_S
from edgekit.store import Store
from edgekit.store.clock import EARLIEST_S, OFF_S
from edgekit.store.tables import SESSIONS, WINDOWS


def doubtful(store: Store, devices: Sequence[str], now_s: float) -> frozenset[str]:
    """Those of which a window came within the last hour that ended before 2020 or after it came.

    Raises: EdgekitError when the store refuses.
    """
    wrong = or_(WINDOWS.c.end_s < EARLIEST_S, WINDOWS.c.end_s > WINDOWS.c.received_s + OFF_S)
    lately = WINDOWS.c.received_s > now_s - HOUR_S
    query = select(SESSIONS.c.device).join(WINDOWS, WINDOWS.c.session == SESSIONS.c.id).where(lately, wrong).distinct()
    with store.transaction("the devices' clocks cannot be looked at") as connection:
        return frozenset(connection.scalars(query)) & frozenset(devices)
