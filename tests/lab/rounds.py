"""Rounds that are over, as the store and this host's files have them, without devices that learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.round import (
    CAME,
    FAILED,
    RUNNING,
    Facts,
    Part,
    Plan,
    Result,
    Round,
    Subject,
    Use,
    error_of,
)  # fmt: skip
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.strategy import State
from edgekit.store import Store
from edgekit_train import update as updates
from edgekit_train.update import Update, Weights

MOST = 1 << 20
"""Bytes of a file of weights."""
BASE = f"sha256:{'a' * 64}"


@dataclass(frozen=True)
class Past:
    """Of which family and project, and what it began with and came to."""

    project: str
    start: Weights
    result: Weights
    family: str = BASE
    app: str = "digits"
    trainer: str = "head"
    source: str = "digits.onnx"


def sent(found: Mapping[str, Any]) -> list[Update]:
    """The updates, as they lie on the shelf, that a round was combined of; the round as the command tells of it."""
    shelf = Shelf(found["key"])
    return [updates.parse(shelf.update(use["device"], use["digest"]), MOST) for use in found["used"]]


def begun(store: Store, past: Past, devices: int = 4) -> Round:
    """One that runs; its last device failed."""
    book, subject = Book(store), Subject(past.project, past.app, past.family, past.trainer)
    names = [f"pi-{i}" for i in range(devices)]
    key = hashlib.sha256(f"{past.project}{len(book.last(1000))}".encode()).hexdigest()[:32]
    parts = tuple(Part(name) for name in names)
    new = book.begin(Round(0, key, subject, Plan(), RUNNING, 0.0, past.source, parts))
    came = [Part(name, CAME, Facts(f"sha256:{'b' * 64}", 100, 50, 1.0)) for name in names[:-1]]
    return book.note(new, *came, Part(names[-1], FAILED, error=error_of("no samples")))


def done(store: Store, past: Past, devices: int = 4) -> Round:
    """One that is done: what it began with and came to lies on the shelf."""
    book, running = Book(store), begun(store, past, devices)
    Shelf(running.key).keep_start(State(past.start), "fedavg")
    Shelf(running.key).keep_result(lambda: State(past.result), "fedavg")
    uses = [
        Use(running.key, part.device, part.facts.digest, part.facts.examples) for part in running.of(CAME) if part.facts
    ]
    return book.finish(book.choose(running, uses), Result(len(uses), 50 * len(uses), 0.5, 0.9, 0.95, 100))
