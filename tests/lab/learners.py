"""Learners: devices of a round without machines: an executor that learns, signs and answers as they do."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.federated.rounds import asking, evaluating
from edgekit.federated.rounds.asking import Answer, Ask
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.ledger_book import LedgerBook
from edgekit.federated.rounds.round import CAME, FAILED, OFFLINE, Part, Round, Subject
from edgekit.federated.rounds.ways import Ways
from edgekit.fleet import Device
from edgekit.store import Store
from edgekit_train import device_key, heads
from edgekit_train import family as families
from edgekit_train import task as tasks
from edgekit_train import update as updates
from edgekit_train.clipping import clip
from edgekit_train.device_key import digest_of
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.update import Update, Weights

RELEASE = "sha256:" + "c" * 64
SUBJECT = Subject("/project", "digits", families.named("sha256:" + "a" * 64, "sha256:" + "b" * 64), "head")
START: Weights = heads.initial([4, 3])
AWAY = Answer(OFFLINE, error={"code": "connect", "message": "no answer", "hint": None})
BROKEN = Answer(FAILED, error={"code": "training", "message": "no samples", "hint": None})
NO_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
Lie = Callable[[Update], Update]
Act = Answer | BaseException | Lie | threading.Event


def samples(device: str) -> list[tuple[np.ndarray, int]]:
    """Thirty of three classes, of each device its own."""
    rng = np.random.default_rng(sum(device.encode()))
    classes = rng.integers(0, 3, 30)
    rows = rng.standard_normal((30, 4)).astype(np.float32) + 2 * np.eye(3, 4, dtype=np.float32)[classes]
    return list(zip(rows, classes.tolist(), strict=True))


@dataclass
class Signer:
    """A device's key, made by OpenSSH in its home; without one nothing is signed, for tests of something else."""

    home: Path | None = None

    def signed(self, data: bytes) -> Answer:
        if self.home is None:
            return Answer(CAME, data, "", NO_KEY)
        return Answer(CAME, data, device_key.sign(self.home, digest_of(data)), device_key.public(self.home))


class Learners(ThreadPoolExecutor):
    """``acts``: what devices do that do not simply learn: answer that, break, lie, or learn only after an event."""

    def __init__(self, acts: dict[str, Act] | None = None, signers: dict[str, Signer] | None = None) -> None:
        super().__init__(8)
        self.acts, self.signers = acts or {}, signers or {}
        self.asks: list[Ask] = []

    @property
    def asked(self) -> list[str]:
        return [ask.device.name for ask in self.asks]

    def submit(self, work: Callable[..., Any], ask: Ask, /) -> Future[Any]:  # type: ignore[override]
        assert work is asking.learn
        self.asks.append(ask)
        return super().submit(self._do, ask)

    def _do(self, ask: Ask) -> Answer:
        act = self.acts.get(ask.device.name)
        if isinstance(act, Answer):
            return act
        if isinstance(act, BaseException):
            raise act
        if isinstance(act, threading.Event):
            assert act.wait(100)
        found = learned(ask)
        if callable(act):
            found = act(found)
        return self.signers.get(ask.device.name, Signer()).signed(updates.dump(found))


def learned(ask: Ask) -> Update:
    """What a device's own samples make of a task; the same each time."""
    asked = tasks.parse(ask.task, 1 << 20)
    assert (asked.device, asked.app, asked.round) == (ask.device.name, ask.app, ask.key)
    fitted = HeadTrainer().fit(asked.weights, samples(asked.device), asked.config)
    names = (asked.app, RELEASE, asked.round, asked.device)
    if asked.clip is None:
        return Update(*names, fitted.examples, fitted.delta, fitted.metrics)
    clipped = clip(fitted.delta, asked.clip)
    return Update(*names, fitted.examples, clipped.delta, {**fitted.metrics, "clipped": float(not clipped.whole)})


def times(factor: float) -> Lie:
    """What it has learned, so many times over."""
    return lambda update: replace(
        update, delta={name: array * np.float32(factor) for name, array in update.delta.items()}
    )


def nowhere(update: Update) -> Update:
    """What no device comes to that does its work."""
    return times(np.nan)(update)


@dataclass
class Told:
    """What was told while rounds went."""

    parts: list[Part] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def ways(store: Store, pool: Learners, names: list[str], told: Told | None = None) -> Ways:
    told = told or Told()
    fleet = {name: Device(name, "ssh://x", "pi") for name in names}
    heard = (lambda round_, part: told.parts.append(part), told.rounds.append, told.lines.append)
    book, keys = Book(store), KeyBook(store, SUBJECT.project)
    return Ways(pool, book, keys, LedgerBook(store), fleet, lambda digest: "signed", evaluating.nobody, *heard)
