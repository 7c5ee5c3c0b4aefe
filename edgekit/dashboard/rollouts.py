"""Rollouts: the last ones in the store, each as a bar of what has become of its devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from edgekit.counted import counted
from edgekit.dashboard.bars import Piece, pieces
from edgekit.page import words
from edgekit.rollout import DONE, WAITING, Rollout
from edgekit.rollout_store import ROLLOUTS, UNREAD, Book
from edgekit.store import Store

MOST = 8
STATES = {DONE: "passed", "pushed": "pushed", "failed": "failed", "offline": "offline", WAITING: "waiting"}
"""In the order of a bar; what else there is (withdrawn) comes after them."""


@dataclass(frozen=True)
class Shown:
    """A rollout as a line."""

    number: int
    project: str
    state: str
    release: str
    started_s: float
    pieces: tuple[Piece, ...]
    told: str


def last(store: Store) -> list[Shown]:
    """At most MOST, the newest first. Raises: EdgekitError."""
    query = select(ROLLOUTS.c.number, ROLLOUTS.c.project).order_by(ROLLOUTS.c.number.desc()).limit(MOST)
    with store.transaction(UNREAD) as connection:
        known = [(row.number, row.project) for row in connection.execute(query)]
    book = Book(store)
    return [shown(book.find(project, number)) for number, project in known]


def shown(rollout: Rollout) -> Shown:
    releases = sorted({words.release(part.release) for part in rollout.parts})
    release = releases[0] if len(releases) == 1 else counted(len(releases), "release")
    why = "; ".join(rollout.decisions[-1].reasons) if rollout.decisions else ""
    facts = (rollout.number, words.cut(Path(rollout.project).name), rollout.state, release, rollout.started_s)
    return Shown(*facts, pieces([part.state for part in rollout.parts], STATES), why)
