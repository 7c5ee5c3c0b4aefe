"""Connection: one client. It reads a request, waits for its answer, writes it, and only then reads the next one.

One whose requests are all for the same worker is lent to that: then nothing is done with it here until it comes back.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Callable, Sequence

from edgekit_server.http import Bytes, Refused, Response, encode
from edgekit_server.reading import Reading

if TYPE_CHECKING:
    from edgekit_server.connections import Clients
    from edgekit_server.http import Taker

NEVER = float("inf")
LINGER_S = 2.0
"""A client that is still sending gets to read why it is refused: RFC 9112 section 9.6."""
PARTS_MOST = 512
"""sendmsg takes 1,024."""
PROVEN = 2
"""Answers after which a connection is lent: most that are opened for one request end there."""
WARIER = 8
"""So many times as many it takes after it came back, as its requests are not all for the same one."""


class Connection:
    """``due`` is when it has kept others waiting for too long."""

    __slots__ = (
        *("_discards", "_held", "_needed", "_out", "_owner", "_paused", "_proven"),
        *("_reading", "_socket", "_stays", "_taker", "due", "peer"),
    )

    def __init__(self, connected: socket.socket, peer: str, owner: Clients) -> None:
        self._socket, self.peer, self._owner = connected, peer, owner
        self._out, self._held, self.due = memoryview(b""), 0, NEVER
        self._stays, self._discards, self._paused = True, False, False
        self._taker: Taker | None = None
        self._proven, self._needed = 0, PROVEN
        self._reading = self._next()
        owner.loop.watch(connected, self.readable)

    def readable(self) -> None:
        if self._reading.gathered:  # what comes now is looked at after the answer
            self._paused = True
            self._owner.loop.forget(self._socket)
        else:
            self._guarded(self._discard if self._discards else self._read)

    def overdue(self) -> None:
        """A client that reads its answer no more, or does not stop sending, is left."""
        if self._out or self._discards:
            self.close()
        else:
            self._refuse(Refused(408, "the request came too slowly"))

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._owner.loop.forget(self._socket)
            self._socket.close()
            self._release()
            self._out, self._reading = memoryview(b""), self._next()  # an answer finds its request no more
            self._taker = None  # or a worker that has ended stays in memory as long as this connection does
            self._owner.closed(self)

    # It is lent

    def lend(self) -> int:
        """Its descriptor. Nothing is done with it until it is resumed, refused or closed."""
        self._owner.idle.pop(self, None)
        self._owner.loop.forget(self._socket)
        return self._socket.fileno()

    def resume(self, data: bytes = b"") -> None:
        """It came back, with what was read from it and not answered."""
        self._owner.loop.watch(self._socket, self.readable)
        if data:
            self._proven, self._needed = 0, self._needed * WARIER
            self._reading.rest = data
            self._guarded(self._read_on)
        elif self._owner.ending:
            self.close()
        else:
            self._owner.idle[self] = None

    def refuse(self, refused: Refused) -> None:
        """What was asked of whom it was lent to is not going to be answered."""
        self._owner.loop.watch(self._socket, self.readable)
        self._guarded(self._refuse, refused)

    def _guarded(self, step: Callable[..., None], *given: object) -> None:
        try:
            if self._socket.fileno() >= 0:
                step(*given)
        except Refused as refused:
            self._refuse(refused)
        except BlockingIOError:
            pass
        except OSError:  # the client is gone
            self.close()

    def _next(self) -> Reading:
        return Reading(self._owner.limits.body, self._hold, self.peer)

    def _hold(self, count: int) -> None:
        self._owner.hold(count)
        self._held += count

    def _release(self) -> None:
        self._owner.release(self._held)
        self._held = 0

    # A request comes in

    def _read(self) -> None:
        reading, buffer = self._reading, self._owner.buffer
        space = reading.space(buffer)
        count = self._socket.recv_into(space)
        if not count and reading.begun:
            raise Refused(400, "the request ends before it is whole")  # a client that is not gone hears it
        if not count:
            return self.close()
        reading.took(space, count)
        self._came(count)
        if space is buffer and count == len(buffer) and reading.head and not reading.gathered:
            self._read()  # a body that had no room beside its head

    def _came(self, count: int) -> None:
        """Every byte gives the client time for the next ones, but none to save up."""
        reading, now, limits = self._reading, self._owner.loop.now, self._owner.limits
        if not reading.begun:
            return
        if self.due == NEVER:
            self._owner.idle.pop(self, None)
            self.due = now + limits.patience_s
        self.due = min(self.due + count / limits.rate, now + limits.patience_s)
        if reading.gathered:
            self._ask(reading)
        elif reading.expects:
            self._socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _ask(self, reading: Reading) -> None:
        self.due = NEVER
        request, reading.body = reading.request, None
        if request is None:
            reading.step()
            return self._owner.loop.soon(partial(self._guarded, partial(self._ask, reading)))
        return self._owner.put(request, partial(self._answer, reading))

    def _read_on(self) -> None:
        """What came before the last answer was out."""
        if self._reading.rest and not self._reading.gathered:
            self._reading.put(b"")
            self._came(0)

    # An answer goes out

    def _answer(self, reading: Reading, response: Response) -> None:
        """The first one is sent, if its client is still there."""
        if self._reading is reading:
            self._release()
            head, self._reading = reading.head, self._next()
            self._reading.rest = reading.rest
            self._stays = head is not None and head.keeps and not (self._discards or self._owner.ending)
            self._taker = response.taker
            self._guarded(self._send, encode(response, head, self._stays))

    def _refuse(self, refused: Refused) -> None:
        """What follows on the connection cannot be told from what was refused, so it ends."""
        self._owner.refused += 1
        self._owner.idle.pop(self, None)
        self._discards, self._reading.rest = True, b""
        self._answer(self._reading, refused.response())

    def _send(self, parts: Sequence[Bytes]) -> None:
        """What the client does not take at once is copied: the parts are free when this is back."""
        parts = parts if len(parts) < PARTS_MOST else (b"".join(parts),)
        size = sum(map(len, parts))
        try:
            sent = self._socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        if sent == size:
            self._sent()
        elif self._owner.fits(size):
            self._hold(size)
            self._out = memoryview(b"".join(parts))[sent:]
            self.due = self._owner.loop.now + self._owner.limits.reader_s
            self._owner.loop.watch(self._socket, None, partial(self._guarded, self._write))
        else:
            self.close()

    def _write(self) -> None:
        self._out = self._out[self._socket.send(self._out) :]
        if not self._owner.ending:
            self.due = self._owner.loop.now + self._owner.limits.reader_s
        if not self._out:
            self._paused = True
            self._release()
            self._sent()

    def _sent(self) -> None:
        loop, self.due = self._owner.loop, NEVER
        if self._discards:
            self.due = loop.now + LINGER_S
            self._socket.shutdown(socket.SHUT_WR)
        elif not self._stays:
            return self.close()
        elif self._reading.rest:
            loop.soon(partial(self._guarded, self._read_on))
        if self._paused or self._discards:
            self._paused = False
            loop.watch(self._socket, self.readable)
        if not (self._discards or self._reading.rest):
            self._rest()
        return None

    def _rest(self) -> None:
        """It has been answered, and nothing more has come."""
        self._owner.idle[self] = None
        if self._taker:
            self._proven += 1
            if self._proven >= self._needed:
                self._taker(self)

    def _discard(self) -> None:
        if not self._socket.recv_into(self._owner.buffer):
            self.close()
