"""Connections: the clients of one listener, and what all of them together may take."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from edgekit_server.connection import Connection
from edgekit_server.http import Head, Refused, Request, Response, encode

if TYPE_CHECKING:
    from edgekit_server.loop import Callback, Loop

Reply = Callable[[Response], None]
Handle = Callable[[Request, Reply], None]
"""Called in the loop's thread; it replies at once or later, there too. What it raises is answered: Refused as it says,
everything else with 500."""

BODY_MOST = 64 << 20
SPARE_FILES = 256
"""Descriptors for workers, models and logs."""
AT_ONCE = 64
LOOK_S = 1.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def _share_of_memory() -> int:
    return min(256 << 20, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)


@dataclass(frozen=True)
class Limits:
    """What clients may take. A request that brings nothing for ``patience_s``, or less than ``rate``, gets a 408."""

    body: Callable[[Head], int] = lambda head: BODY_MOST
    """The most bytes of the body of such a request. Raises: Refused, before a body is taken in."""
    held: int = _share_of_memory()
    """Bytes of all bodies and answers that are held for clients."""
    connections: int = 2048
    patience_s: float = 4.0
    rate: float = 4096.0
    """Bytes a second."""
    reader_s: float = 10.0
    """How long an answer waits for a client that reads nothing of it."""


class Clients:
    """``open`` is who is connected, ``idle`` who has nothing under way, the oldest first."""

    def __init__(self, loop: Loop, handle: Handle, limits: Limits) -> None:
        self.loop, self.handle, self.limits = loop, handle, limits
        self.buffer = memoryview(bytearray(8 << 10))
        self.open: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        self.ending, self.refused, self._held = False, 0, 0
        loop.later(LOOK_S, self._look)

    def put(self, request: Request, reply: Reply) -> None:
        """Have a request answered, whatever it is: the outermost frame, so that the others go on."""
        try:
            self.handle(request, reply)
        except Refused as refused:
            reply(refused.response())
        except Exception:
            traceback.print_exc()
            reply(Refused(500, "internal error").response())

    def hold(self, count: int) -> None:
        """Raises: Refused where clients hold too much already."""
        if not self.fits(count):
            raise Refused(503, "too many bytes of requests are being held", {"Retry-After": "1"})
        self._held += count

    def fits(self, count: int) -> bool:
        return self._held + count <= self.limits.held

    def release(self, count: int) -> None:
        self._held -= count

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)
        self.idle.pop(connection, None)

    def _look(self) -> None:
        for connection in [each for each in self.open if each.due < self.loop.now]:
            connection.overdue()
        self.loop.later(LOOK_S, self._look)


class Connections(Clients):
    """Clients that connect to a listener."""

    def __init__(self, loop: Loop, listener: socket.socket, handle: Handle, limits: Limits | None = None) -> None:
        super().__init__(loop, handle, limits or Limits())
        self._listener, self._most = listener, _most_connections(self.limits.connections)
        self._done: Callback = _nothing
        listener.setblocking(False)
        if listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        loop.watch(listener, self._accept)

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        self._ended()

    def end(self, done: Callback) -> None:
        """Accept nobody any more, answer who has asked, then call ``done``."""
        self.ending, self._done = True, done
        self.loop.forget(self._listener)
        self._listener.close()
        for connection in list(self.idle):
            connection.close()
        self._ended()

    def _ended(self) -> None:
        if self.ending and not self.open:
            self.loop.soon(self._done)
            self._done = _nothing

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connected, address = self._listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED and not self._make_room():
                    self.loop.forget(self._listener)
                    self.loop.later(LOOK_S, self._listen)
                return
            if len(self.open) < self._most or self._make_room():
                connected.setblocking(False)
                local = self._listener.family == socket.AF_UNIX
                connection = Connection(connected, "unix" if local else address[0], self)
                self.open.add(connection)
                self.idle[connection] = None
            else:
                _turn_away(connected)

    def _make_room(self) -> bool:
        """Whether one could go: the one that has been idle the longest."""
        oldest = next(iter(self.idle), None)
        if oldest:
            oldest.close()
        return oldest is not None

    def _listen(self) -> None:
        if not self.ending:
            self.loop.watch(self._listener, self._accept)


def _nothing() -> None: ...


def _turn_away(connected: socket.socket) -> None:
    refusal = Refused(503, "too many connections", {"Retry-After": "1"}).response()
    with connected, contextlib.suppress(OSError):
        connected.setblocking(False)
        connected.sendmsg(encode(refusal, None, stays=False))


def _most_connections(wanted: int) -> int:
    """As many as this process may have descriptors for, which may be more than it was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(wanted, soft - SPARE_FILES))
    return wanted
