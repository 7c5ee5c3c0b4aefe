"""The store's book of rounds: each step of one is written down before the next, so that any host can carry it on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, func, select, update

from edgekit.errors import ConfigError
from edgekit.federated.rounds.round import (
    ABORTED,
    CAME,
    DECIDED,
    DONE,
    HALTED,
    LATE,
    RUNNING,
    Facts,
    Part,
    Plan,
    Result,
    Round,
    Subject,
    Use,
)
from edgekit.federated.rounds.tables import PARTS, ROUNDS
from edgekit.store import Store
from edgekit.store.engine import MOST_NUMBER, insert_new

UNKEPT = "the round cannot be kept"
UNREAD = "the round cannot be read"
BEGIN = "edgekit round start --to all"
MORE = {CAME: (), LATE: (CAME,)}
"""What stays where that is noted of a device; for all else what is sound does."""


class Book:
    """The rounds in a store. Every method raises EdgekitError when the store refuses it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, new: Round) -> Round:
        """A new round, running; or of two that follow the same one the first. ``number`` and ``state`` are set here."""
        facts = {**asdict(new.subject), "key": new.key, "plan": asdict(new.plan), "state": RUNNING, "used": []}
        facts |= {"source": new.source, "follows": new.follows, "started_s": time.time()}
        with self._store.transaction(UNKEPT) as connection:
            insert_new(connection, ROUNDS, [facts])
            own = ROUNDS.c.key == new.key if new.follows is None else ROUNDS.c.follows == new.follows
            row = connection.execute(select(ROUNDS.c.number, ROUNDS.c.key).where(own)).one()
            if row.key == new.key:
                insert_new(connection, PARTS, [_row(row.number, i, part) for i, part in enumerate(new.parts)])
            return _load(connection, row.number)

    def find(self, project: str, number: int | None) -> Round:
        """The round of that number, or a project's last one. Raises: ConfigError when there is none."""
        last = select(func.max(ROUNDS.c.number)).where(ROUNDS.c.project == project)
        known = select(ROUNDS.c.number).where(ROUNDS.c.number == number, ROUNDS.c.project == project)
        found = self._one(last if number is None else known) if (number or 0) <= MOST_NUMBER else None
        if found is None:
            what = "no round" if number is None else f"no round {number}"
            raise ConfigError(f"{what} of the project in {project}", BEGIN)
        return found

    def last(self, most: int) -> list[Round]:
        """Of all projects, the newest first."""
        with self._store.transaction(UNREAD) as connection:
            numbers = connection.scalars(select(ROUNDS.c.number).order_by(ROUNDS.c.number.desc()).limit(most)).all()
            return [_load(connection, number) for number in numbers]

    def last_done(self, subject: Subject) -> Round | None:
        """The round whose weights the next one of the same subject begins with."""
        own = [ROUNDS.c[name] == value for name, value in asdict(subject).items()]
        return self._one(select(func.max(ROUNDS.c.number)).where(*own, ROUNDS.c.state == DONE))

    def last_clip(self, subject: Subject) -> float | None:
        """What the clip of the last round with an adaptive one is to become; of the same trainer and whatever model."""
        own = [ROUNDS.c[name] == getattr(subject, name) for name in ("project", "app", "trainer")]
        adaptive = ROUNDS.c.plan["adaptive"].as_boolean()
        last = self._one(select(func.max(ROUNDS.c.number)).where(*own, ROUNDS.c.state == DONE, adaptive))
        return last.result.clip if last and last.result else None

    def older(self, project: str, newest: int) -> list[str]:
        """The keys of a project's rounds that are over, but for the newest ones."""
        over = select(ROUNDS.c.key).where(ROUNDS.c.project == project, ROUNDS.c.state.in_((DONE, ABORTED)))
        with self._store.transaction(UNREAD) as connection:
            return list(connection.scalars(over.order_by(ROUNDS.c.number.desc()).offset(newest)))

    def after(self, round_: Round) -> Round | None:
        """The round that follows, where it has begun."""
        return self._one(select(ROUNDS.c.number).where(ROUNDS.c.follows == round_.number))

    def note(self, round_: Round, *parts: Part) -> Round:
        """What has become of devices of a round; as somebody else has left it, where they know more.

        That is: they have changed its state, or have a sound update of a device that there is something less of now.
        """
        noted, known = {part.device: replace(part, at_s=time.time()) for part in parts}, False
        with self._store.transaction(UNKEPT) as connection:
            for name, part in noted.items():
                own = (PARTS.c.round == round_.number) & (PARTS.c.device == name)
                less = own & PARTS.c.state.not_in(MORE.get(part.state, (CAME, LATE)))
                known |= not connection.execute(update(PARTS).where(less).values(_news(part))).rowcount
            state = connection.execute(select(ROUNDS.c.state).where(ROUNDS.c.number == round_.number)).scalar_one()
            if known or state != round_.state:
                return _load(connection, round_.number)
        return replace(round_, parts=tuple(noted.get(part.device, part) for part in round_.parts))

    def choose(self, round_: Round, uses: Sequence[Use], broken: int = 0) -> Round:
        """A running round is decided; one that somebody has decided or aborted meanwhile is as they left it."""
        news = {"state": DECIDED, "used": [asdict(use) for use in uses], "broken": broken, "reason": None}
        return self._changed(round_, news, RUNNING)

    def finish(self, round_: Round, result: Result) -> Round:
        """A decided round is done."""
        return self._changed(round_, {"state": DONE, "result": asdict(result)}, DECIDED)

    def turn(self, round_: Round, state: str, reason: str | None = None) -> Round:
        """Another state, where nobody else has changed it meanwhile; one that is not done may be aborted always."""
        news = {"state": state, "reason": reason}
        before = (RUNNING, HALTED, DECIDED) if state == ABORTED else (round_.state,)
        return self._changed(round_, news, *before)

    def _one(self, query: Select[Any]) -> Round | None:
        with self._store.transaction(UNREAD) as connection:
            number: int | None = connection.execute(query).scalar()
            return None if number is None else _load(connection, number)

    def _changed(self, round_: Round, news: dict[str, Any], *before: str) -> Round:
        own = (ROUNDS.c.number == round_.number) & ROUNDS.c.state.in_(before)
        with self._store.transaction(UNKEPT) as connection:
            connection.execute(update(ROUNDS).where(own).values(news))
            return _load(connection, round_.number)


def _load(connection: Connection, number: int) -> Round:
    row = connection.execute(select(ROUNDS).where(ROUNDS.c.number == number)).one()
    parts = connection.execute(select(PARTS).where(PARTS.c.round == number).order_by(PARTS.c.position))
    return Round(
        row.number, row.key, Subject(row.project, row.app, row.family, row.trainer), msgspec.convert(row.plan, Plan),
        row.state, row.started_s, row.source, tuple(_part(each) for each in parts), row.follows,
        msgspec.convert(row.used, tuple[Use, ...]), msgspec.convert(row.result, Result | None), row.reason,
        row.broken,
    )  # fmt: skip


def _part(row: Any) -> Part:
    return Part(row.device, row.state, msgspec.convert(row.facts, Facts | None), row.error, row.at_s)


def _row(number: int, position: int, part: Part) -> dict[str, Any]:
    return {"round": number, "position": position, "device": part.device, **_news(part)}


def _news(part: Part) -> dict[str, Any]:
    facts = None if part.facts is None else asdict(part.facts)
    return {"state": part.state, "facts": facts, "error": part.error, "at_s": part.at_s}
