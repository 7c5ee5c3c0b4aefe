"""Rounds: the last ones in the store, each with what its devices did, what came of it, and whether that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.dashboard.bars import Piece, pieces
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.gate_store import Gated, Gates
from edgekit.federated.rounds.round import CAME, LATE, OFFLINE, WAITING, Round
from edgekit.page import words
from edgekit.store import Store
from edgekit_train import family as families

MOST = 8
STATES = {
    CAME: "learned",
    LATE: "late",
    "refused": "refused",
    "failed": "failed",
    OFFLINE: "offline",
    WAITING: "waiting",
}
"""In the order of a bar."""


@dataclass(frozen=True)
class Shown:
    """A round as a line. ``accuracy``: of the float model, before and after, where that was measured."""

    number: int
    project: str
    app: str
    state: str
    model: str
    how: str
    started_s: float
    pieces: tuple[Piece, ...]
    accuracy: str
    told: str


def last(store: Store) -> list[Shown]:
    """At most MOST, the newest first. Raises: EdgekitError."""
    found = Book(store).last(MOST)
    gated = Gates(store).of(each.number for each in found)
    return [shown(each, gated.get(each.number)) for each in found]


def shown(found: Round, gated: Gated | None) -> Shown:
    subject = found.subject
    return Shown(
        found.number,
        words.cut(Path(subject.project).name),
        words.cut(subject.app),
        found.state,
        words.release(families.model(subject.family) or subject.family),
        f"{words.cut(found.plan.strategy)}, {words.cut(subject.trainer)}",
        found.started_s,
        pieces([part.state for part in found.parts], STATES),
        _accuracy(found, gated),
        _told(found, gated),
    )


def _accuracy(found: Round, gated: Gated | None) -> str:
    """That at the gate, which is beside the model that is to be replaced; else as the round was evaluated."""
    result = found.result
    if gated:
        return _from_to(gated.evaluation.before, gated.evaluation.after)
    if result is None or result.accuracy is None:
        return ""
    return _from_to(result.before, result.accuracy)


def _from_to(before: float | None, after: float) -> str:
    return f"{words.share(before)} → {words.share(after)}"


def _told(found: Round, gated: Gated | None) -> str:
    """Why it halted, or what the gate said."""
    if gated is None:
        return found.reason or ""
    built = ", ".join(f"{target} {words.release(digest)}" for target, digest in gated.releases.items())
    return gated.reason or f"Built for {built}"
