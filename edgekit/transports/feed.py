"""Feed: a program's input in pieces, and how long its program may take after each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic

SLICE = 1 << 15
"""Bytes that go at a time; so slow may a link be that even these take long."""


class Feed:
    """Pieces for one program. One thread goes through them; others look how it goes, and may end it."""

    def __init__(self, stdin: bytes | Iterable[bytes], timeout_s: float) -> None:
        self._pieces = [stdin] if isinstance(stdin, bytes) else stdin
        self._timeout_s = timeout_s
        self._last = monotonic()
        self._enough = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), SLICE):
                if self._enough:
                    return
                yield piece[start : start + SLICE]
                self._last = monotonic()

    def end(self) -> None:
        """The program has answered; no more is needed."""
        self._enough = True

    @property
    def left_s(self) -> float:
        """The time left since the last piece went, 0 when it is up."""
        return max(0.0, self._last + self._timeout_s - monotonic())
