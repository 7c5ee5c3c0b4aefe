"""The store's book of the gate: which rounds became builds, which did not and why, and which round a model is of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Column, Float, Integer, String, Table, Text, func, select

from edgekit.federated.paired import Paired
from edgekit.store import METADATA, Store
from edgekit.store.engine import upsert

GATES = Table(
    "round_gates",
    METADATA,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("evaluation", JSON, nullable=False),
    Column("at_s", Float, nullable=False),
)
BUILDS = Table(
    "round_builds",
    METADATA,
    Column("release", String(80), primary_key=True),
    Column("round", Integer, nullable=False, index=True),
    Column("family", String(200), nullable=False, index=True),
    Column("target", String(64), nullable=False),
    Column("at_s", Float, nullable=False),
)
UNKEPT, UNREAD = "what came of the round cannot be kept", "what came of rounds cannot be read"


@dataclass(frozen=True)
class Gated:
    """What came of a round at the gate. ``reason``: why it does not ship, "" where it does.

    ``releases``: what was built of it at last, digests by target.
    """

    reason: str
    evaluation: Paired
    releases: Mapping[str, str] = field(default_factory=dict)
    at_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        told = {"ok": not self.reason, "reason": self.reason or None, "evaluation": self.evaluation.as_dict()}
        return {**told, "releases": dict(self.releases), "at_s": self.at_s}


class Gates:
    """What came of rounds, in a store; a round that is built again is told anew. Raises EdgekitError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, number: int, gated: Gated, family: str) -> None:
        """``family``: of all its releases."""
        own = {"round": number, "at_s": time.time()}
        built = {**own, "family": family}
        told = {"reason": gated.reason, "evaluation": gated.evaluation.as_dict()}
        with self._store.transaction(UNKEPT) as connection:
            upsert(connection, GATES, [{**own, **told}])
            upsert(connection, BUILDS, [{**built, "release": d, "target": name} for name, d in gated.releases.items()])

    def of(self, numbers: Iterable[int]) -> dict[int, Gated]:
        """By the number of the round, where it has been there."""
        wanted = list(numbers)
        with self._store.transaction(UNREAD) as connection:
            rows = connection.execute(select(GATES).where(GATES.c.round.in_(wanted))).all()
            built = connection.execute(select(BUILDS).where(BUILDS.c.round.in_(wanted)).order_by(BUILDS.c.at_s)).all()
        return {
            row.round: Gated(
                row.reason,
                Paired.of(row.evaluation),
                {each.target: each.release for each in built if each.round == row.round},
                row.at_s,
            )
            for row in rows
        }

    def maker(self, family: str) -> int | None:
        """The number of the round that releases of a family were built of; None for those of no round here."""
        query = select(func.min(BUILDS.c.round)).where(BUILDS.c.family == family)
        with self._store.transaction(UNREAD) as connection:
            found: int | None = connection.execute(query).scalar()
        return found
