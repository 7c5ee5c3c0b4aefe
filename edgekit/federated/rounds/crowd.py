"""Crowd: the devices that are at work, of a round that is waited for and of those that were decided without them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace

from edgekit.errors import EdgekitError
from edgekit.fanout import WIDTH
from edgekit.federated.rounds import lines
from edgekit.federated.rounds.asking import Answer, Ask, learn
from edgekit.federated.rounds.round import FAILED, error_of


@dataclass(frozen=True)
class Heard:
    """An answer, by the number of the round that it belongs to and the name of the device."""

    number: int
    device: str
    answer: Answer


@dataclass
class Crowd:
    """``pool``: where the work is done; of the tasks, which hold all weights, no more are made than it works on."""

    pool: Executor
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    _at_work: dict[Future[Answer], tuple[int, str]] = field(default_factory=dict)

    def heard(self, number: int, asks: Iterator[Ask], until: float) -> Generator[Heard]:
        """The answers as they come, also to rounds before, until nobody of this one is at work, or time is over.

        ``until``: by the monotonic clock. Whoever is at work when the caller has heard enough stays so.
        """
        more = self._fill(number, asks)
        while more or any(of == number for of, _ in self._at_work.values()):
            yield from self._some(until - time.monotonic())
            if time.monotonic() >= until:
                return
            more = self._fill(number, asks)

    def leave(self) -> None:
        """Nobody waits for those who are still at work."""
        for future in self._at_work:
            future.cancel()
        lines.cut(self.name)

    def _fill(self, number: int, asks: Iterator[Ask]) -> bool:
        """Whether there may be more to ask, as soon as somebody is done: also one of a round before."""
        while len(self._at_work) < WIDTH:
            if (ask := next(asks, None)) is None:
                return False
            self._at_work[self.pool.submit(learn, replace(ask, crowd=self.name))] = (number, ask.device.name)
        return True

    def _some(self, for_s: float) -> Iterator[Heard]:
        done, _ = wait(self._at_work, max(0.0, for_s), FIRST_COMPLETED)
        for future in done:
            yield Heard(*self._at_work.pop(future), _answer(future))


def _answer(future: Future[Answer]) -> Answer:
    """What the work gave; where it broke, as by the end of its process, that is the device's answer."""
    surprise = CancelledError("ended by its executor") if future.cancelled() else future.exception()
    if surprise is None:
        return future.result()
    if isinstance(surprise, EdgekitError):
        return Answer(FAILED, error=surprise.as_dict())
    code = "system" if isinstance(surprise, OSError) else "internal"
    return Answer(FAILED, error=error_of(f"{type(surprise).__name__}: {surprise}", code=code))
