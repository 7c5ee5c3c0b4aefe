"""Loop: one thread that waits for files to be ready and for times to come, and calls what was asked for.

A callback must not block. It may be called although nothing is to be read, so files are non-blocking.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import select
import signal
import socket
import time
from typing import Callable, Protocol

Callback = Callable[[], object]


class File(Protocol):
    def fileno(self) -> int: ...


class Watched:
    """What is called for a file; nothing once it is forgotten, even in the turn in which both happen."""

    __slots__ = ("events", "readable", "writable")

    def __init__(self) -> None:
        self.events = 0
        self.readable: Callback | None = None
        self.writable: Callback | None = None

    def call(self, events: int) -> None:
        """What hangs up or fails can be read, and that tells."""
        if events & ~select.EPOLLOUT and self.readable:
            self.readable()
        if events & ~select.EPOLLIN and self.writable:
            self.writable()


class Timer:
    """One call to come."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """``now`` is the time of this turn in seconds, as ``clock`` gives it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self.now = clock, clock()
        self._poll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._soon: collections.deque[Callback] = collections.deque()
        self._running = False
        self._bell: tuple[socket.socket, socket.socket] | None = None

    def watch(self, file: File, readable: Callback | None, writable: Callback | None = None) -> None:
        """Call these whenever the file can be read or written, until it is watched for others, or forgotten."""
        events = (select.EPOLLIN if readable else 0) | (select.EPOLLOUT if writable else 0)
        if not events:
            return self.forget(file)
        number = file.fileno()
        watched = self._watched.get(number)
        if watched is None:
            watched = self._watched[number] = Watched()
            self._poll.register(number, events)
        elif watched.events != events:
            self._poll.modify(number, events)
        watched.events, watched.readable, watched.writable = events, readable, writable
        return None

    def forget(self, file: File) -> None:
        """Before the file is closed."""
        watched = self._watched.pop(file.fileno(), None)
        if watched is not None:
            watched.readable = watched.writable = None
            self._poll.unregister(file.fileno())

    def later(self, seconds: float, callback: Callback) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self._clock() + seconds, next(self._numbers), timer))
        return timer

    def soon(self, callback: Callback) -> None:
        """In the next turn, after what is ready then."""
        self._soon.append(callback)

    def on_signal(self, number: int, callback: Callback) -> None:
        """Only in the main thread."""
        signal.set_wakeup_fd(self._hung().fileno(), warn_on_full_buffer=False)
        signal.signal(number, lambda _number, _frame: self.soon(callback))

    def from_threads(self) -> Callable[[Callback], None]:
        """What any thread may give a callback, for the loop's thread to call soon."""
        bell = self._hung()

        def call(callback: Callback) -> None:
            self.soon(callback)
            with contextlib.suppress(BlockingIOError):  # it rings already
                bell.send(b"\0")

        return call

    def _hung(self) -> socket.socket:
        """The bell, which wakes the loop up."""
        if self._bell is None:
            self._bell = bell, ears = socket.socketpair()
            ears.setblocking(False)
            bell.setblocking(False)
            self.watch(ears, lambda: ears.recv(4096))
        return self._bell[0]

    def run(self) -> None:
        """Until ``stop``."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """After this turn."""
        self._running = False

    def close(self) -> None:
        """It is not run any more."""
        self._poll.close()
        for each in self._bell or ():
            each.close()

    def turn(self, waits: bool = True) -> None:
        """Wait once, if at all, and call what has come."""
        ready = self._poll.poll(self._patience() if waits else 0)
        self.now = self._clock()
        # what was forgotten in this turn is not called, and not what took its number either
        for watched, events in [(self._watched.get(number), events) for number, events in ready]:
            if watched:
                watched.call(events)
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback:
                timer.callback()

    def _patience(self) -> float | None:
        if self._soon:
            return 0
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None
