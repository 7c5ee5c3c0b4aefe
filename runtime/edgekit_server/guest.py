"""Guest: a connection that was lent to this worker, which reads its requests and answers them.

It brings requests for this worker's model and nothing else, one after the other, mostly with the same head. Between two
runs of a model nothing of this code is left in the processor's caches, so that each call counts, in here and below.
"""

from __future__ import annotations

import functools
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from edgekit_server import wire
from edgekit_server.asked import headers_of
from edgekit_server.bodies import Placed
from edgekit_server.connection import NEVER, Connection
from edgekit_server.http import Refused, beginning
from edgekit_server.named import named
from edgekit_server.page import ANSWERING, IDLE, READING, SLOTS, WAITING
from edgekit_server.reading import Reading
from edgekit_server.rooms import LARGEST

if TYPE_CHECKING:
    from edgekit_server.asked import Answer
    from edgekit_server.errands import Errand
    from edgekit_server.guests import Guests
    from edgekit_server.http import Head

NOTHING = memoryview(b"")


class Known(NamedTuple):
    """A head that came twice in a row: ``raw`` as it was sent, ``space`` for it; ``json`` bytes of a body are JSON."""

    errand: Errand
    raw: bytes
    space: memoryview
    length: int
    json: int


class Guest(Connection):
    """As ``inference.Question``, too: that of its last request. ``mark`` is its place on the page."""

    __slots__ = (
        *("_asks", "_errand", "_guests", "_known", "_last", "_room"),
        *("arrived_ns", "body", "dialect", "header_length", "mark"),
    )
    most = 1 << 62

    def __init__(self, connected: socket.socket, peer: str, owner: Guests, place: int) -> None:
        self._guests, self.mark = owner, SLOTS + place
        self._asks, self._room = False, False
        self._errand: Errand | None = None
        self._last: Errand | None = None
        self._known: Known | None = None
        self.body, self.arrived_ns, self.dialect = NOTHING, 0, 0
        self.header_length: int | None = None
        super().__init__(connected, peer, owner)

    def readable(self) -> None:
        if self._asks:  # what comes now is looked at after the answer
            self._paused = True
            self._owner.loop.forget(self._socket)
            return
        self._guarded(self._discard if self._discards else self._read)
        if not (self._asks or self._out or self._reading.begun):
            self._guests.marks[self.mark] = IDLE

    def overdue(self) -> None:
        if self._out or self._discards:
            self.close()
        else:
            super()._refuse(Refused(408, "the request came too slowly"))

    def recall(self) -> None:
        """Go back to the front, if nothing is to be answered first."""
        if not (self._asks or self._out or self._discards):
            self._go_back(self._reading.unanswered)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            super().close()
            self._guests.tell(wire.placed(wire.GONE, self.mark - SLOTS))
            self._guests.marks[self.mark] = IDLE

    def _go_back(self, data: bytes) -> None:
        """Data: what was read of a request that is not to be answered here."""
        self._owner.loop.forget(self._socket)
        self._socket.close()
        self._release()
        self._owner.closed(self)
        place = self.mark - SLOTS
        while len(data) > wire.PIECE:
            self._guests.tell(wire.placed(wire.PART, place, data[: wire.PIECE]))
            data = data[wire.PIECE :]
        self._guests.tell(wire.placed(wire.BACK, place, data))
        self._guests.marks[self.mark] = IDLE

    def _next(self) -> Reading:
        return Reading(self._let_in, self._hold, self.peer)

    def _let_in(self, head: Head) -> int:
        self._errand, self._room = self._guests.errands.find(head, self.peer), False
        return head.length

    def _refuse(self, refused: Refused) -> None:
        """What is not let in is not for this worker to answer."""
        if self._reading.raw:
            super()._refuse(refused)
        else:
            self._go_back(self._reading.rest)

    # A request comes in

    def _read(self) -> None:
        known = self._known
        self._guests.marks[self.mark] = READING  # from here on, what is read would be lost with this process
        if known and not self._reading.begun and self._owner.fits(known.length):
            self._read_known(known)
        else:
            super()._read()

    def _read_known(self, known: Known) -> None:
        """If the head is the same again, the body already is where it is to lie."""
        room = self._guests.rooms.take(known.length, known.json)
        count = self._socket.recvmsg_into((known.space, room))[0]
        have = count - len(known.raw)
        if have < 0 or known.space != known.raw:
            return self._read_other(bytes(known.space[:count]) + bytes(room[: max(have, 0)]))
        self._errand, self._room = known.errand, True
        if have == known.length:
            return self._put(known.errand, room)
        self._hold(known.length)
        self._reading.go_on(known.raw, known.errand.head, Placed(room, have))
        return self._came(count)

    def _read_other(self, data: bytes) -> None:
        self._known = None
        if not data:
            return self.close()
        self._reading.put(data)
        return self._came(len(data))

    def _ask(self, reading: Reading) -> None:
        errand, body = self._errand, reading.body
        assert errand is not None
        assert body is not None
        self._reading = self._next()
        self._reading.rest = reading.rest
        if self._known is None and errand is self._last and 0 < errand.head.length <= LARGEST:
            space = self._owner.buffer[: len(reading.raw)]
            self._known = Known(errand, reading.raw, space, errand.head.length, errand.header_length or 0)
        self._last = errand
        self._put(errand, memoryview(body))

    def _put(self, errand: Errand, body: memoryview) -> None:
        self.due, self._asks = NEVER, True
        self._guests.marks[self.mark] = WAITING
        self.body, self.dialect, self.header_length = body, errand.dialect, errand.header_length
        self.arrived_ns = time.monotonic_ns()
        self._guests.inference.ask(self)

    # An answer goes out

    def answer(self, status: int, answer: Answer) -> None:
        guests, errand, now = self._guests, self._errand, time.monotonic_ns()
        if errand is None or self._socket.fileno() < 0:
            return
        guests.page.tally.took(status, now - self.arrived_ns)
        guests.page.answered(now)
        guests.marks[self.mark] = ANSWERING
        size, length = answer.size, answer.header_length
        head = self._named(errand, status, length, size) if errand.is_named else _beginning(status, length, size)
        self._asks = False
        self._release()
        self._guarded(self._send, (head, *answer.parts))
        if self._room:
            guests.rooms.give(self.body, errand.header_length or 0)
            self._room = False
        self.body = NOTHING

    def _named(self, errand: Errand, status: int, length: int | None, size: int) -> bytes:
        name = named(errand.head, self.peer, self._guests.errands.app, self.arrived_ns / 1e9)
        assert name is not None
        name.tell(status)
        return beginning(status, (*headers_of(status, length).items(), *name.headers.items()), size, "")

    def _sent(self) -> None:
        if self._owner.ending and not self._discards:
            self._go_back(self._reading.rest)
        else:
            self._guests.marks[self.mark] = READING if self._reading.rest else ANSWERING
            super()._sent()

    def _rest(self) -> None:
        self._guests.marks[self.mark] = IDLE


@functools.lru_cache(maxsize=64)
def _beginning(status: int, header_length: int | None, size: int) -> bytes:
    return beginning(status, tuple(headers_of(status, header_length).items()), size, "")
