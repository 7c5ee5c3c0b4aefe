"""The store's book of rollouts: each step of one is written down before the next, so that any host can carry it on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from edgekit.errors import ConfigError
from edgekit.policy import Decision
from edgekit.rollout import ABORTED, HALTED, RUNNING, Part, Plan, Rollout
from edgekit.store import METADATA, Store
from edgekit.store.engine import MOST_NUMBER

ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_s", Float, nullable=False),
    Column("plan", JSON, nullable=False),
)
PARTS = Table(
    "rollout_parts",
    METADATA,
    Column("rollout", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("device", String(64), nullable=False, index=True),
    Column("wave", Integer, nullable=False),
    Column("app", String(64), nullable=False),
    Column("release", String(80), nullable=False),
    Column("folder", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("facts", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("at_s", Float, nullable=False),
)
DECISIONS = Table(
    "rollout_decisions",
    METADATA,
    Column("rollout", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("go", Boolean, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("at_s", Float, nullable=False),
)
UNKEPT = "the rollout cannot be kept"
UNREAD = "the rollout cannot be read"


class Book:
    """The rollouts in a store. Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, project: str, plan: Plan, parts: Iterable[Part]) -> Rollout:
        """A new rollout, running."""
        facts = {"project": project, "state": RUNNING, "started_s": time.time(), "plan": asdict(plan)}
        with self._store.transaction(UNKEPT) as connection:
            key = connection.execute(insert(ROLLOUTS).values(facts)).inserted_primary_key
            assert key
            rows = [{"rollout": key[0], "position": i, **asdict(part)} for i, part in enumerate(parts)]
            connection.execute(insert(PARTS), rows)
            return _load(connection, key[0])

    def find(self, project: str, number: int | None) -> Rollout:
        """The rollout of that number, or a project's last one. Raises: ConfigError when there is none."""
        last = select(func.max(ROLLOUTS.c.number)).where(ROLLOUTS.c.project == project)
        known = select(ROLLOUTS.c.number).where(ROLLOUTS.c.number == number, ROLLOUTS.c.project == project)
        asked = last if number is None else known
        with self._store.transaction(UNREAD) as connection:
            found = connection.execute(asked).scalar() if (number or 0) <= MOST_NUMBER else None
            if found is None:
                what = "no rollout" if number is None else f"no rollout {number}"
                raise ConfigError(f"{what} of the project in {project}", "edgekit push --to all --waves 1,10%,100%")
            return _load(connection, found)

    def note(self, rollout: Rollout, *parts: Part) -> Rollout:
        """What has become of devices of a rollout; with its state, which somebody else may have changed."""
        noted = {part.device: replace(part, at_s=time.time()) for part in parts}
        with self._store.transaction(UNKEPT) as connection:
            for name, part in noted.items():
                own = (PARTS.c.rollout == rollout.number) & (PARTS.c.device == name)
                news = {"state": part.state, "facts": part.facts, "error": part.error, "at_s": part.at_s}
                connection.execute(update(PARTS).where(own).values(news))
            state = connection.execute(select(ROLLOUTS.c.state).where(ROLLOUTS.c.number == rollout.number)).scalar_one()
        return replace(rollout, state=state, parts=tuple(noted.get(part.device, part) for part in rollout.parts))

    def decide(self, rollout: Rollout, decision: Decision) -> Rollout:
        """A decision, with the time."""
        timed = replace(decision, at_s=time.time())
        before = select(func.count()).where(DECISIONS.c.rollout == rollout.number)
        with self._store.transaction(UNKEPT) as connection:
            row = {"rollout": rollout.number, "number": connection.execute(before).scalar_one(), **asdict(timed)}
            connection.execute(insert(DECISIONS).values(row))
            return _load(connection, rollout.number)

    def hold(self, release: str, rule: str, reason: str) -> list[int]:
        """Halt the running rollouts of a release, from their next wave on; those that were halted so now.

        One that a person carries on after that, a rule of the same name does not halt again.
        """
        running = select(ROLLOUTS.c.number).where(ROLLOUTS.c.state == RUNNING)
        of_it = running.join(PARTS, PARTS.c.rollout == ROLLOUTS.c.number).where(PARTS.c.release == release).distinct()
        with self._store.transaction(UNREAD) as connection:
            found = [_load(connection, number) for number in connection.scalars(of_it).all()]
        again = [each for each in found if not any(line.startswith(f"rule {rule}:") for line in each.reasons)]
        for each in again:
            self.turn(self.decide(each, Decision(each.wave, False, (reason,))), HALTED)
        return [each.number for each in again]

    def turn(self, rollout: Rollout, state: str) -> Rollout:
        """The state of a rollout; one that was aborted, perhaps by somebody else meanwhile, stays so."""
        own = (ROLLOUTS.c.number == rollout.number) & (ROLLOUTS.c.state != ABORTED)
        with self._store.transaction(UNKEPT) as connection:
            connection.execute(update(ROLLOUTS).where(own).values(state=state))
            return _load(connection, rollout.number)


def _load(connection: Connection, number: int) -> Rollout:
    row = connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.number == number)).one()
    parts = connection.execute(select(PARTS).where(PARTS.c.rollout == number).order_by(PARTS.c.position))
    decisions = connection.execute(select(DECISIONS).where(DECISIONS.c.rollout == number).order_by(DECISIONS.c.number))
    plan = msgspec.convert(row.plan, Plan)
    return Rollout(
        row.number, row.project, row.state, row.started_s, plan,
        tuple(Part(**_without(each, "rollout", "position")) for each in parts.mappings()),
        tuple(_decision(each) for each in decisions),
    )  # fmt: skip


def _decision(row: Any) -> Decision:
    return Decision(row.wave, row.go, tuple(row.reasons), row.at_s)


def _without(row: Any, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}
