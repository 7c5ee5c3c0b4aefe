"""Workers as the front sees them: a process that is started, asked, watched, and told to end."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from edgekit_runtime import processes
from edgekit_server import launch, memory, wire
from edgekit_server.arena import Arena, Slots
from edgekit_server.asked import AGAIN, headers_of
from edgekit_server.http import Bytes, Refused, Response
from edgekit_server.loans import Loans
from edgekit_server.page import RUNNING
from edgekit_server.tally import Tally

if TYPE_CHECKING:
    from edgekit_server.connection import Connection
    from edgekit_server.launch import Terms
    from edgekit_server.loop import Loop


@dataclass(frozen=True)
class Inquiry:
    """A request for inference: its body, in one of the dialects, and who waits for the answer.

    ``version``: the only one that may answer; "" for any.
    """

    body: Bytes
    dialect: int
    header_length: int | None
    reply: Callable[[Response], None]
    version: str = ""
    arrived_s: float = field(default_factory=time.monotonic)


class Worker:
    """A process for an app. ``changed`` is called when it has become ready, and when it has ended.

    ``digest``: the release that it serves, once it is ready; ``asked``: what it has to answer, by slot. ``error``: why
    it has ended, unless it was told to. ``need``: the bytes that it is expected to take. ``tally``: where its counts go
    when it ends, which until then are its own ``share``.
    """

    def __init__(self, loop: Loop, app: str, terms: Terms, changed: Callable[[Worker], None]) -> None:
        self.digest, self.error, self.engine, self.degraded = "", "", "", ""
        self.ended, self.tally, self.began_s, self.need = False, Tally(), loop.now, 0
        self._loop, self._terms, self._changed = loop, terms, changed
        self.asked: dict[int, Inquiry] = {}
        self._arena: Arena | None = None
        self._loans: Loans | None = None
        self._heard_s, self._finishing, self._killed, self._lends = loop.now, False, False, True
        self._front, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = launch.start(theirs, app, terms)
        self._front.setblocking(False)
        loop.watch(self._front, self._first)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def most(self) -> int:
        """Bytes that a body may have."""
        return self._arena.size - wire.ALIGNED if self._arena else 0

    @property
    def share(self) -> Tally:
        return self._arena.page.tally if self._arena and not self.ended else Tally()

    @property
    def lent(self) -> int:
        """Connections that are lent to it."""
        return self._loans.number if self._loans else 0

    @property
    def busy(self) -> bool:
        return bool(self.asked or (self._loans and self._loans.busy))

    @property
    def waiting(self) -> int:
        """Requests that it has to answer."""
        return len(self.asked) + (self._arena.page.waiting if self._arena else 0)

    @property
    def used_s(self) -> float:
        """When it answered on a connection that it was lent."""
        return self._arena.page.answered_s if self._arena else 0.0

    def ask(self, inquiry: Inquiry) -> None:
        """Raises: Refused where there is no room."""
        assert self._arena
        length = -1 if inquiry.header_length is None else inquiry.header_length
        arrived_ns = int(inquiry.arrived_s * 1e9)
        question = wire.Question(0, inquiry.dialect, length, len(inquiry.body), arrived_ns)
        if question.size > self.most:
            raise Refused(413, f"{question.size} bytes; a request to this model has {self.most} at most")
        slot = self._slots.take(question.size)
        if slot is None:
            raise Refused(503, "too many requests wait for this model", AGAIN)
        self._arena.view(slot)[question.start : question.start + question.size] = inquiry.body
        if not self.asked:
            self._heard_s = self._loop.now
        self.asked[slot] = inquiry
        self._say(question._replace(slot=slot).pack())

    def recall(self) -> None:
        """All connections that it was lent come back, and it is lent none any more."""
        self._lends = False
        self._say(bytes((wire.RECALL,)))

    def finish(self) -> None:
        """It answers what it was asked, and ends."""
        if not self._finishing:
            self._finishing, self._lends, self._heard_s = True, False, self._loop.now
            with contextlib.suppress(OSError):
                self._front.shutdown(socket.SHUT_WR)

    def look(self) -> None:
        """To be called now and then: end what hangs, and give back memory that is not used."""
        waits = self.asked or self.lent or self._finishing or not self.digest
        turned_s = self._arena.page.turned_s if self._arena else 0.0
        if waits and self._loop.now - max(self._heard_s, turned_s) > self._limit_s:
            self.kill()
        elif self.digest:
            self._slots.trim()

    def kill(self) -> None:
        self._killed = True
        self._process.kill()

    def memory(self) -> int:
        """Bytes of it that no other process shares."""
        return memory.taken(self.pid)

    @property
    def _limit_s(self) -> float:
        return self._terms.timeout_s if self.digest else wire.START_S

    def _say(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended; who hears that answers for it
            self._front.send(packet)

    def _first(self) -> None:
        try:
            packet, beside, _, _ = self._front.recvmsg(wire.PACKET, socket.CMSG_LEN(array("i").itemsize))
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        told = json.loads(packet) if packet else {}
        self.error = told.get("error", "")
        if "digest" in told:
            self._arena = Arena(array("i", beside[0][2])[0], told["size"])
            self._slots, self._heard_s = Slots(self._arena), self._loop.now
            self._loans = Loans(self._front, self._arena.page)
            self.digest, self.engine = told["digest"], f"{told['engine']}, {told['provider']}"
            self.degraded = told["degraded"]
            self._loop.watch(self._front, self._hear)
            self._say(bytes((wire.TOKEN,)) + self._terms.token.encode())
            self._changed(self)
        elif not packet:
            self._over()

    def _hear(self) -> None:
        assert self._loans
        packet = self._received()
        if packet is None:
            return
        if not packet:
            return self._over()
        self._heard_s = self._loop.now
        if packet[0] != wire.ANSWERS:
            return self._loans.heard(packet)
        for answer in wire.answers(packet):
            self._answer(answer)
        return None

    def _received(self) -> bytes | None:
        """None where nothing has come, b"" when it is over."""
        try:
            return self._front.recv(wire.PACKET)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # it has ended without reading all; what it said before is still to be heard
            return self._received()
        except OSError:
            return b""

    def _answer(self, answer: wire.Answer) -> None:
        assert self._arena
        inquiry = self.asked.pop(answer.slot)
        length = answer.header_length if answer.header_length >= 0 else None
        taker = self._take if answer.status == 200 and self._lends else None
        body = self._arena.view(answer.slot)[: answer.size]
        inquiry.reply(Response(answer.status, headers_of(answer.status, length), (body,), taker))
        self._slots.free(answer.slot)

    def _take(self, connection: Connection) -> None:
        if self._loans and self._lends and not self.ended:
            self._loans.lend(connection)

    def _over(self) -> None:
        self._loop.forget(self._front)
        self._front.close()
        self.ended, status = True, self._reap()
        if not (self.error or (self._finishing and not (self.asked or self.lent))):
            hung = f"it did not answer for {self._limit_s:g} s"
            self.error = hung if self._killed else f"it ended with {processes.ending(status)}"
        if self._arena:
            self.tally.add(self._arena.page.tally)
        lost, self.asked = self.asked, {}
        self._changed(self)  # who is answered now may ask again at once
        waited = Refused(503, f"the worker of this model ended before it was its turn: {self.error}", AGAIN)
        ran = Refused(504 if self._killed else 500, f"the worker of this model ended at this request: {self.error}")
        for slot, inquiry in lost.items():
            self.tally.failed(int((time.monotonic() - inquiry.arrived_s) * 1e9))
            running = self._arena and self._arena.page.marks[slot] == RUNNING
            inquiry.reply((ran if running else waited).response())
        self._lost_loans(waited, ran)

    def _lost_loans(self, waited: Refused, ran: Refused) -> None:
        if self._loans and self._arena:
            spent = max(0, int((time.monotonic() - self._arena.page.turned_s) * 1e9))
            for status in self._loans.lost(waited, ran):
                self.tally.failed(spent)
                self.tally.took(status, spent)

    def _reap(self) -> int:
        """Its exit status. It has closed its socket, and so is all but gone."""
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return -9
