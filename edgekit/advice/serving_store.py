"""The store's record of what releases run with on devices: what a device said last is what holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    String,
    Table,
    select,
    update,
)

from edgekit.advice.serving import Served
from edgekit.store import METADATA, Store
from edgekit.store.engine import upsert

SERVINGS = Table(
    "servings",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("app", String(64), primary_key=True),
    Column("release", String(80), primary_key=True),
    Column("live", Boolean, nullable=False),
    Column("target", String(64), nullable=False),
    Column("source", String(80), nullable=False),
    Column("format", String(64), nullable=False),
    Column("precision", String(64), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("host_p50_ms", Float),
    Column("base_p50_ms", Float),
    Column("max_p95_ms", Float),
)


class Servings:
    """Of a store. Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, told: Iterable[Served]) -> None:
        """What devices say of their releases now; of one that they do not have any more, the last word stays."""
        known = {(one.device, one.app, one.release): one for one in told}
        with self._store.transaction("what devices run with cannot be kept") as connection:
            for device, app in dict.fromkeys((one.device, one.app) for one in known.values()):
                own = (SERVINGS.c.device == device) & (SERVINGS.c.app == app)
                connection.execute(update(SERVINGS).where(own).values(live=False))
            upsert(connection, SERVINGS, map(asdict, known.values()))

    def all(self, devices: Iterable[str] | None = None) -> list[Served]:
        """By device, app and sequence."""
        order = (SERVINGS.c.device, SERVINGS.c.app, SERVINGS.c.sequence, SERVINGS.c.release)
        query = select(SERVINGS).order_by(*order)
        if devices is not None:
            query = query.where(SERVINGS.c.device.in_(list(devices)))
        with self._store.transaction("what devices run with cannot be read") as connection:
            return [Served(**row) for row in connection.execute(query).mappings()]
