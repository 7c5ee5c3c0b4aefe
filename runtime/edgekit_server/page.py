"""Page: what a worker tells the front without a word, in memory that outlives it.

What becomes of each request, so that who asked is told the right thing when the worker dies; when the worker was last
seen to do something; and what it has counted.
"""

from __future__ import annotations

from edgekit_server.tally import CELLS, Tally

SLOTS = 64
"""How many requests a worker may have in the arena at once; the others are told to come again."""
GUESTS = 48
"""How many connections a worker may be lent; the others' requests go by the arena."""
IDLE, READING, WAITING, RUNNING, ANSWERING = range(5)
"""Marks: of what is in a slot of the arena, and after those, of each connection that is lent."""
_MARKS = 128
_TURNED, _ANSWERED, _TALLY = range(3)
SIZE = _MARKS + 8 * (_TALLY + CELLS)


class Page:
    """``view``: SIZE bytes, zero at first. Times are by the monotonic clock, which is the machine's."""

    def __init__(self, view: memoryview) -> None:
        self.marks = view[: SLOTS + GUESTS]
        self._cells = view[_MARKS:SIZE].cast("q")
        self.tally = Tally(self._cells[_TALLY:])

    def turned(self, now_s: float) -> None:
        """The worker has begun another turn: what it did in the one before was no hang."""
        self._cells[_TURNED] = int(now_s * 1e9)

    def answered(self, now_ns: int) -> None:
        """Somebody to whom it was lent."""
        self._cells[_ANSWERED] = now_ns

    @property
    def turned_s(self) -> float:
        return self._cells[_TURNED] / 1e9

    @property
    def answered_s(self) -> float:
        return self._cells[_ANSWERED] / 1e9

    @property
    def waiting(self) -> int:
        """Requests of lent connections that are not answered yet."""
        return sum(mark in (WAITING, RUNNING) for mark in self.marks[SLOTS:])
