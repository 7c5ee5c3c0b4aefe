"""Crowd: the devices that are at work, of a round that is waited for and of those that were decided without them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edgekit.errors import EdgekitError
from edgekit.fanout import WIDTH
from edgekit.federated.rounds import lines
from edgekit.federated.rounds.asking import Answer, Ask, learn
from edgekit.federated.rounds.round import FAILED, error_of

PATIENCE_S, MOST = 5.0, 4 * WIDTH
"""As many as ``WIDTH`` are asked at once. Who has been at work for so long takes nobody's place any more, so that those
that hang hold up no others; but no more are at work in all than that: each takes what ``WIDTH`` says, and its task."""
LOOK_S = 1.0
"""So often the caller can look whether it still wants to wait."""


@dataclass(frozen=True)
class Heard:
    """An answer, by the number of the round that it belongs to and the name of the device."""

    number: int
    device: str
    answer: Answer


class Work(NamedTuple):
    """Of which round and device, and when it began, by the monotonic clock."""

    number: int
    device: str
    begun_s: float


@dataclass
class Crowd:
    """``pool``: where the work is done; of the tasks, which hold all weights, no more are made than it works on."""

    pool: Executor
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    _at_work: dict[Future[Answer], Work] = field(default_factory=dict)

    def heard(self, number: int, asks: Iterator[Ask], until: float) -> Generator[Heard | None]:
        """The answers as they come, also to the round before, until nobody of this one is at work, or time is over.

        None where there was none for ``LOOK_S``. ``until``: by the monotonic clock. Whoever is at work when the caller
        has heard enough stays so for as long as the next round goes.
        """
        self.leave(but={number, *sorted(self._rounds() - {number})[-1:]})
        more = self._fill(number, asks)
        while more or number in self._rounds():
            yield from self._some(min(LOOK_S, until - time.monotonic()))
            if time.monotonic() >= until:
                return
            more = self._fill(number, asks)

    def leave(self, but: Collection[int] = ()) -> None:
        """Nobody waits for those who are still at work, but for those of these rounds."""
        for number in self._rounds().difference(but):
            lines.cut(self._line(number))
        for future in [future for future, work in self._at_work.items() if work.number not in but]:
            future.cancel()
            del self._at_work[future]

    def _rounds(self) -> set[int]:
        return {work.number for work in self._at_work.values()}

    def _line(self, number: int) -> str:
        return f"{self.name}-{number}"

    def _fill(self, number: int, asks: Iterator[Ask]) -> bool:
        """Whether there may be more to ask, as soon as there is a place: also one that a round before has left."""
        while self._has_place():
            if (ask := next(asks, None)) is None:
                return False
            future = self.pool.submit(learn, replace(ask, crowd=self._line(number)))
            self._at_work[future] = Work(number, ask.device.name, time.monotonic())
        return True

    def _has_place(self) -> bool:
        lately = time.monotonic() - PATIENCE_S
        asked = sum(work.begun_s > lately for work in self._at_work.values())
        return asked < WIDTH and len(self._at_work) < MOST

    def _some(self, for_s: float) -> Iterator[Heard | None]:
        done, _ = wait(self._at_work, max(0.0, for_s), FIRST_COMPLETED)
        for future in done:
            work = self._at_work.pop(future)
            yield Heard(work.number, work.device, _answer(future))
        if not done:
            yield None


def _answer(future: Future[Answer]) -> Answer:
    """What the work gave; where it broke, as by the end of its process, that is the device's answer."""
    surprise = CancelledError("ended by its executor") if future.cancelled() else future.exception()
    if surprise is None:
        return future.result()
    if isinstance(surprise, EdgekitError):
        return Answer(FAILED, error=surprise.as_dict())
    code = "system" if isinstance(surprise, OSError) else "internal"
    return Answer(FAILED, error=error_of(f"{type(surprise).__name__}: {surprise}", code=code))
