"""The store's record of devices that rules have taken back: written before it is done, so that it is done once."""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import Column, ColumnElement, Float, String, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from edgekit.errors import EdgekitError
from edgekit.rules.deeds import Done, Due
from edgekit.store import METADATA, Store

BEGUN, DONE, FAILED, AWAY = "begun", "done", "failed", "away"
"""``away``: the device could not be reached. What has ``begun`` is under way, or its host was killed: then the device
knows whether it has gone back, and does it once.
"""
RETRY_S = 600.0
"""After so long these two are tried again: who collects what devices deliver judges them once a minute, and may not
reach them at all.
"""
DEEDS = Table(
    "rollbacks",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("release", String(80), primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("back", String(80), nullable=False),
    Column("at_s", Float, nullable=False),
)
UNKEPT = "what a rule does cannot be kept"


class Deeds:
    """Of a store. Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def done(self, devices: Iterable[str]) -> list[Done]:
        """What was done to devices, has begun, or has just been tried."""
        query = select(DEEDS).where(DEEDS.c.device.in_(list(devices)), ~_open())
        with self._store.transaction("what rules did cannot be read") as connection:
            rows = connection.execute(query).all()
        return [Done(row.device, row.app, row.release, row.rule, row.state, row.back) for row in rows]

    def begin(self, due: Due) -> bool:
        """Whether it is this caller's to do: nobody has done it before, nor is at it now."""
        facts = {"rule": due.rule, "reason": due.reason, "state": BEGUN, "back": "", "at_s": time.time()}
        try:
            with self._store.transaction(UNKEPT) as connection:
                if connection.execute(update(DEEDS).where(_own(due), _open()).values(facts)).rowcount:
                    return True
                key = {"device": due.device, "app": due.app, "release": due.release}
                connection.execute(insert(DEEDS).values({**key, **facts}))
                return True
        except EdgekitError as error:
            if isinstance(error.__cause__, IntegrityError):
                return False
            raise

    def end(self, due: Due, state: str, back: str = "") -> None:
        """How it ended; ``back``: the release that the device serves since."""
        with self._store.transaction(UNKEPT) as connection:
            connection.execute(update(DEEDS).where(_own(due)).values(state=state, back=back, at_s=time.time()))


def _open() -> ColumnElement[bool]:
    """What is to be tried again by now."""
    return DEEDS.c.state.in_((AWAY, BEGUN)) & (DEEDS.c.at_s <= time.time() - RETRY_S)


def _own(due: Due) -> ColumnElement[bool]:
    return (DEEDS.c.device == due.device) & (DEEDS.c.app == due.app) & (DEEDS.c.release == due.release)
