"""A store as version 1 of its tables had it, with what was in it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, create_engine

from edgekit_runtime.windows import Window

METADATA = MetaData()
WINDOWS = Table(
    "windows",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("session", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("app", String(64), nullable=False, index=True),
    Column("release", String(80), nullable=False),
    Column("start_s", Float, nullable=False),
    Column("end_s", Float, nullable=False),
    Column("buckets", JSON, nullable=False),
    Column("errors", JSON, nullable=False),
)
SAME = ("app", "release", "session", "seq", "start_s", "end_s", "errors")


def made(url: str, device: str, windows: Iterable[Window]) -> None:
    """An empty database becomes such a store."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    METADATA.create_all(engine)
    rows = [
        {
            "device": device,
            **{key: getattr(window, key) for key in SAME},
            "buckets": [[index, number] for index, number in sorted(window.buckets.items())],
        }
        for window in windows
    ]
    with engine.begin() as connection:
        connection.execute(WINDOWS.insert(), rows)
    engine.dispose()
