"""Migration: a store that an older edgekit made is brought to this one's tables when it is opened."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from edgekit.errors import EdgekitError
from edgekit.store.clock import Clock
from edgekit.store.engine import chunks, insert_new
from edgekit.store.intake import store
from edgekit.store.tables import METADATA, SCHEMA, VERSION
from edgekit_runtime.windows import Window

FIRST = "windows"
"""The table of version 1, which no later one has: a row a window, histograms as pairs in JSON."""


def bring_up(engine: Engine) -> None:
    """Make what is missing. Raises: EdgekitError for a store of a newer edgekit."""
    _make_tables(engine)
    with engine.connect() as connection:
        version = connection.execute(select(SCHEMA.c.version)).scalar()
        first = inspect(connection).has_table(FIRST)
    if version is None or first:
        with engine.begin() as connection:
            _from_first(connection)
    elif version > VERSION:
        raise EdgekitError("the store was made by a newer edgekit", "bring this one up to date")


def _make_tables(engine: Engine) -> None:
    engine.connect().close()  # who cannot be reached is asked once
    for _ in METADATA.tables:
        try:
            return METADATA.create_all(engine)
        except DBAPIError:  # somebody else has made one of them meanwhile
            continue
    return METADATA.create_all(engine)


def _from_first(connection: Connection) -> None:
    """All of it or nothing; who comes second waits here, and finds it done."""
    insert_new(connection, SCHEMA, [{"version": VERSION, "pruned_s": 0.0}])
    connection.execute(update(SCHEMA).values(version=VERSION))
    if not inspect(connection).has_table(FIRST):
        return
    clock = Clock(time.time())
    rows = connection.execute(text(f"SELECT * FROM {FIRST} ORDER BY device, session, seq")).mappings()
    for device, own in groupby(rows.all(), key=lambda row: row["device"]):
        for some in chunks(_windows(own)):
            store(connection, str(device), some, clock)
    connection.execute(text(f"DROP TABLE {FIRST}"))


def _windows(rows: Iterable[Any]) -> Iterator[Window]:
    for row in rows:
        buckets, errors = _document(row["buckets"]), _document(row["errors"])
        names = {key: row[key] for key in ("app", "release", "session", "seq", "start_s", "end_s")}
        yield Window(**names, buckets={int(index): int(number) for index, number in buckets}, errors=errors)


def _document(value: Any) -> Any:
    """Some drivers read JSON by themselves."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value
