"""Talk: one program that is told something, answers, is told more, and so on, until one of the two has enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edgekit.transports.aside import begun
from edgekit.transports.feed import NEVER_S, Feed

if TYPE_CHECKING:
    from edgekit.transports import Completed

ENDING_S = 15.0
"""How long a program may take to end once its input has ended."""


class Talk:
    """One thread speaks and listens. When its block is left the program's input ends; it is waited for then, but not
    after an error.
    """

    def __init__(self, run: Callable[[Feed], Completed]) -> None:
        """``run`` runs the program with such a feed to its end."""
        self._feed = _Lines()
        self._run = begun(lambda: run(self._feed))
        self._run.add_done_callback(lambda done: self._feed.lines.put(None))

    def say(self, pieces: Iterable[bytes]) -> None:
        """They go over as they are made, while the caller goes on."""
        self._feed.more.put(pieces)

    def hear(self, timeout_s: float) -> bytes:
        """The next line of its standard output; empty when it has ended. The time is measured as ``run`` measures it.

        Raises: as ``Transport.run``.
        """
        self._feed.within(timeout_s)
        line = self._feed.lines.get()
        if line is None:
            self._feed.lines.put(None)
            self._run.result()
            return b""
        self._feed.within(NEVER_S)
        return line

    def end(self) -> Completed:
        """Its input ends, and so does it. Raises: as ``Transport.run``."""
        self._feed.ended()
        return self._run.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
            return
        self._feed.end()
        self._feed.more.put(None)
        self._feed.within(0)
        self._run.exception()  # there is an error already


class _Lines(Feed):
    """``more`` to say, None when it is enough; ``lines`` that the program says, None when it has ended."""

    def __init__(self) -> None:
        self.more: SimpleQueue[Iterable[bytes] | None] = SimpleQueue()
        self.lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._begun = bytearray()
        super().__init__(self._told(), NEVER_S)

    def _told(self) -> Iterator[bytes]:
        while (pieces := self.more.get()) is not None:
            yield from pieces

    def answered(self, data: bytes) -> None:
        self.came(len(data))
        *whole, rest = data.split(b"\n")
        for line in whole:
            self.lines.put(bytes(self._begun + line))
            self._begun.clear()
        self._begun += rest

    def ended(self) -> None:
        self.more.put(None)
        self.within(ENDING_S)
