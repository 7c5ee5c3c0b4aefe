"""A crowd of devices at work: who hangs holds up nobody else, and nobody is waited for without end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgekit.errors import TransportError
from edgekit.fanout import WIDTH
from edgekit.federated.rounds import crowd, lines
from edgekit.federated.rounds.asking import Answer, Ask
from edgekit.federated.rounds.crowd import MOST, PATIENCE_S, Crowd
from edgekit.federated.rounds.round import CAME
from edgekit.fleet import Device
from edgekit.transports import Transport

SOON, NEVER_S = 0.001, 20.0


@dataclass
class Pool(Executor):
    """Devices that answer at once, or never."""

    hanging: set[str]
    asks: list[Ask] = field(default_factory=list)

    def submit(self, work: Any, ask: Ask, /) -> Future[Any]:  # type: ignore[override]
        self.asks.append(ask)
        future: Future[Answer] = Future()
        if ask.device.name not in self.hanging:
            future.set_result(Answer(CAME))
        return future


def asks(names: Iterable[str]) -> Iterator[Ask]:
    return (Ask(Device(name, "ssh://x", "pi"), "digits", "a" * 32, b"", "", 0, 9.0) for name in names)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "LOOK_S", SOON)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the crowd takes for the time."""
    now = [0.0]
    monkeypatch.setattr(crowd, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_those_who_would_answer_are_asked_however_many_places_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """More hang than are asked at once: every fifth of three hundred."""
    monkeypatch.setattr(crowd, "PATIENCE_S", SOON)
    names = [f"d{number}" for number in range(300)]
    hanging = set(names[::5])
    assert len(hanging) > WIDTH
    heard = Crowd(Pool(hanging)).heard(1, asks(names), time.monotonic() + NEVER_S)
    came = (each.device for each in heard if each)
    assert set(itertools.islice(came, 240)) == set(names) - hanging


def test_who_has_been_at_work_for_a_while_takes_nobodys_place(clock: list[float]) -> None:
    names = [f"d{number}" for number in range(300)]
    pool = Pool(set(names))
    heard = Crowd(pool).heard(1, asks(names), 1000.0)
    asked = []
    for _ in range(6):
        assert [next(heard), next(heard)] == [None, None]
        asked.append(len(pool.asks))
        clock[0] += PATIENCE_S
    assert asked == [WIDTH, 2 * WIDTH, 3 * WIDTH, MOST, MOST, MOST]
    clock[0] = 1000.0
    assert list(heard) == []


def test_of_rounds_before_the_last_one_nobody_is_waited_for(clock: list[float]) -> None:
    pool = Pool({"d0", "d1"})
    waited = Crowd(pool)
    for number in (3, 5, 8):
        assert next(waited.heard(number, asks(["d0", "d1"]), 9.0)) is None
    assert [open_to(ask) for ask in pool.asks] == [False, False, True, True, True, True]
    waited.leave()
    assert not any(map(open_to, pool.asks))


def open_to(ask: Ask) -> bool:
    """Whether somebody waits for what a device is asked."""
    try:
        with lines.held(ask.crowd, cast("Transport", None)):
            return True
    except TransportError:
        return False
