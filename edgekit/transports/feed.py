"""Feed: a program's input in pieces, what it says to it, and how long it may take."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from time import monotonic

SLICE = 1 << 14
"""Bytes that go at a time; so slow may a link be that even these take long."""
SLOWEST = 1 << 10
"""Bytes a second: what comes over takes a link no longer than that, and the rest of the time the program."""
NEVER_S = threading.TIMEOUT_MAX
MOST_SAID = 64 << 20
"""Bytes of a program's output: one that never ends fills no memory here."""


class Feed:
    """Pieces for one program. One thread goes through them; others look how it goes, and may end it."""

    def __init__(self, stdin: bytes | Iterable[bytes], timeout_s: float) -> None:
        self._pieces = [stdin] if isinstance(stdin, bytes) else stdin
        self.timeout_s = timeout_s
        self._last = monotonic()
        self._sent = self._granted = 0
        self._enough = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), SLICE):
                if self._enough:
                    return
                data = piece[start : start + SLICE]
                yield data
                self._sent += len(data)
                self._last = monotonic()

    def within(self, timeout_s: float) -> None:
        """From now on, so long."""
        self.timeout_s, self._last = timeout_s, monotonic()

    def end(self) -> None:
        """No more is needed."""
        self._enough = True

    def answered(self, data: bytes) -> None:
        """The program has written this to its standard output: it needs no more input."""
        self.came(len(data))
        self.end()

    def ended(self) -> None:
        """Its standard output has ended."""

    def came(self, size: int) -> None:
        """So many bytes came of it: the time that a slow link took for them is not the program's."""
        self._last = min(monotonic(), self._last + size / SLOWEST)

    def allows(self, window: int) -> None:
        """The program takes so many more bytes. They grow by what it has read of those that are on their way."""
        if window + self._sent > self._granted:
            self._last = monotonic()
        self._granted = window + self._sent

    @property
    def left_s(self) -> float:
        """The time left since the last piece went, 0 when it is up."""
        return max(0.0, self._last + self.timeout_s - monotonic())
