"""Queueing: which of the calls that wait is next, which go along with it in one run, and which have waited too long.

One thread's: that which answers calls puts in what has come, and takes out what to run.
"""

from __future__ import annotations

import math
from bisect import insort
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit_runtime.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Hashable

ORDINARY = 2
"""The priority of a call that says nothing (0): 1 goes before it, 3 and more go after it."""
MOST_ROWS = 32
GAIN = 0.9
"""A larger run must bring a row's time to this share of what it takes in a smaller one, or it is not worth the wait."""
HELD = 0.9
"""The size that was chosen last counts as so much faster: engines lay out memory anew for another one."""
FASTER, SLOWER = 0.5, 0.1
"""What the last run counts in the time of its size: a faster one shows what can be done, a slower one may be chance."""
FORGIVEN = 0.999
"""A size that was passed over looks faster by this each time, so that it is tried again: machines warm up and cool."""


class Call(NamedTuple):
    """Somebody who waits. ``ticket``: whatever says who, and for what; never looked at.

    ``rows``: along the batch axis; calls of the same ``kind`` may run together, those of None run alone.
    ``deadline_s``, ``arrived_s``: by one monotonic clock.
    """

    ticket: Any
    kind: Hashable | None = None
    rows: int = 1
    priority: int = 0
    deadline_s: float = math.inf
    arrived_s: float = 0.0


class _Place(NamedTuple):
    """In line: by priority, then by arrival; no two have the same number."""

    level: int
    number: int
    call: Call


class Queue:
    """Calls in the order in which they are to run, at most so many."""

    def __init__(self, most: int) -> None:
        self._most, self._number = most, 0
        self._places: list[_Place] = []

    def __len__(self) -> int:
        return len(self._places)

    def put(self, call: Call) -> None:
        """Raises: Overloaded when as many wait as may."""
        if len(self._places) >= self._most:
            raise Overloaded(f"{self._most} calls wait already", "try again when some of them are done")
        self._number += 1
        insort(self._places, _Place(call.priority or ORDINARY, self._number, call))

    def late(self, now_s: float) -> list[Call]:
        """Those whose time is over; they wait no more."""
        late = [place.call for place in self._places if place.call.deadline_s <= now_s]
        if late:
            self._places = [place for place in self._places if place.call.deadline_s > now_s]
        return late

    def take(self, now_s: float, pace: Pace) -> list[Call]:
        """The call that is next, and those that run together with it; empty where none waits."""
        if len(self._places) < 2 or not pace.shares:
            return [self._places.pop(0).call] if self._places else []
        first = self._places[0].call
        alike = [p for p in self._places if p is self._places[0] or _together(p.call, first)]
        limit = pace.rows(sum(place.call.rows for place in alike), first.deadline_s - now_s)
        taken: list[_Place] = []
        room = max(limit, first.rows)
        for place in alike:
            if place.call.rows <= room:
                taken.append(place)
                room -= place.call.rows
        numbers = {place.number for place in taken}
        self._places = [place for place in self._places if place.number not in numbers]
        return [place.call for place in taken]


def _together(call: Call, other: Call) -> bool:
    return call.kind is not None and call.kind == other.kind


class Pace:
    """How long runs of 1, 2, 4 … rows take on this machine, from the runs so far; and so how many rows to run at once.

    ``budget_s``: what one run may take, as far as is known; 1 row always may. Nothing is waited for: a run takes of
    what waits as much as pays off. ``most``: 1 for a model whose rows may not share a run; ``shares``: whether they do.
    """

    def __init__(self, budget_s: float = math.inf, most: int = MOST_ROWS) -> None:
        self._budget_s, self._most, self._last = budget_s, most, 1
        self.shares = most > 1
        self._seconds: dict[int, float] = {}
        self._laid_out: set[int] = set()

    def rows(self, waiting: int, spare_s: float = math.inf) -> int:
        """How many of the rows that wait to run now, when the first of them has so much time."""
        most_s, sizes = min(self._budget_s, spare_s), _sizes(min(waiting, self._most))
        best = 1
        for size in sizes:
            known = self._seconds.get(size)
            if known is None:
                return size if 2 * self._seconds.get(size // 2, 0.0) <= most_s else best
            if known <= most_s and self._each(size) < GAIN * self._each(best):
                best = size
        for size in sizes:
            if size != best:
                self._seconds[size] *= FORGIVEN
        if len(sizes) > 1:
            self._last = best
        return best

    def _each(self, size: int) -> float:
        return self._seconds[size] / size * (HELD if size == self._last else 1)

    def ran(self, rows: int, seconds: float) -> None:
        """A run of so many rows took so long. The first of a size is not counted: the engine lays out memory in it."""
        if not self.shares:
            return
        size = 1 << (rows.bit_length() - 1)
        if size not in self._laid_out:
            self._laid_out.add(size)
            return
        seconds *= size / rows
        known = self._seconds.setdefault(size, seconds)
        self._seconds[size] += (seconds - known) * (FASTER if seconds < known else SLOWER)


def _sizes(most: int) -> list[int]:
    """1, 2, 4, … up to so many: an engine that lays out memory for each size anew has few to deal with."""
    return [1 << power for power in range(most.bit_length())]
