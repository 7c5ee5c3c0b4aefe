"""Tables: how rounds lie in the store."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Integer, String, Table, Text

from edgekit.store import METADATA

ROUNDS = Table(
    "rounds",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),
    Column("project", Text, nullable=False),
    Column("app", String(64), nullable=False),
    Column("family", String(200), nullable=False),
    Column("trainer", String(64), nullable=False),
    Column("plan", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_s", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("follows", Integer, unique=True),
    Column("used", JSON, nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("reason", Text),
    Column("broken", Integer, nullable=False, default=0),
)
PARTS = Table(
    "round_parts",
    METADATA,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("device", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("facts", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("at_s", Float, nullable=False),
)
KEYS = Table(
    "device_keys",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("public", Text, nullable=False),
    Column("seen_s", Float, nullable=False),
)
