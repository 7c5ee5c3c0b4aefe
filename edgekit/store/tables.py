"""Tables: how the store lies in a database, version 2."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 2
METADATA = MetaData()

SCHEMA = Table(
    "schema_version",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("pruned_s", Float, nullable=False),
)
DEVICES = Table(  # its row is what those that store for one device wait for
    "devices",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("heard_s", Float, nullable=False),
)
SERIES = Table(  # of ALL devices too
    "series",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("app", String(64), nullable=False),
    Column("release", String(80), nullable=False),
    Column("emulated", Boolean, nullable=False),
    Column("first_s", Float, nullable=False),
    Column("last_s", Float, nullable=False),
    Column("tally", LargeBinary, nullable=False),
    Column("conditions", LargeBinary, nullable=False),
    UniqueConstraint("device", "app", "release", "emulated"),
)
SESSIONS = Table(  # remembers what has been counted for longer than the windows are kept
    "sessions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("session", String(64), nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("pruned_seq", Integer, nullable=False),
    Column("heard_s", Float, nullable=False),
    UniqueConstraint("device", "session"),
)
WINDOWS = Table(  # moments by the device's own clock, but for received_s
    "raw_windows",
    METADATA,
    Column("session", ForeignKey(SESSIONS.c.id), primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("series", ForeignKey(SERIES.c.id), nullable=False),
    Column("start_s", Float, nullable=False),
    Column("end_s", Float, nullable=False),
    Column("received_s", Float, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
SLICES = Table(  # in this order, so that a series lies in one piece
    "slices",
    METADATA,
    Column("series", ForeignKey(SERIES.c.id), primary_key=True, autoincrement=False),
    Column("seconds", Integer, primary_key=True, autoincrement=False),
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),
    Column("tally", LargeBinary, nullable=False),
    Column("stages", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
OPEN = 0.0
ALERTS = Table(
    "alerts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("app", String(64), nullable=False),
    Column("release", String(80), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("at_s", Float, nullable=False),
    Column("closed_s", Float, nullable=False),
    Column("level", String(16), nullable=False),
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("told", Text, nullable=False),
    UniqueConstraint("device", "app", "release", "rule", "closed_s"),
)
