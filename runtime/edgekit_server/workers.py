"""Workers as the front sees them: a process that is started, asked, watched, and told to end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping

from edgekit_runtime import processes
from edgekit_runtime.home import default_home
from edgekit_server import wire
from edgekit_server.arena import ROWS, Arena, Slots
from edgekit_server.asked import BINARY, JSON
from edgekit_server.counts import STAGES, Counts
from edgekit_server.http import Refused, Response

if TYPE_CHECKING:
    from edgekit_server.loop import Loop

AGAIN = {"Retry-After": "1"}
OIP, TF_SERVING = range(2)
"""The places of the dialects in ``inference.DIALECTS``."""


@dataclass(frozen=True)
class Terms:
    """``timeout_s``: after that long without a word, a worker that has been asked is taken to hang.

    ``cache_bytes``: of answers that each worker keeps, 0 for none. ``memory_bytes``: what all workers may take, 0 for
    what the machine has. ``nice``: of apps that are to come after others when there is not enough processor (nice(2)).
    """

    home: Path = field(default_factory=default_home)
    timeout_s: float = 30.0
    cache_bytes: int = 0
    memory_bytes: int = 0
    nice: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Inquiry:
    """A request for inference: its body, in one of the dialects, and who waits for the answer.

    ``version``: the only one that may answer; "" for any.
    """

    body: bytes | bytearray
    dialect: int
    header_length: int | None
    reply: Callable[[Response], None]
    version: str = ""
    arrived_s: float = field(default_factory=time.monotonic)


class Worker:
    """A process for an app. ``changed`` is called when it has become ready, and when it has ended.

    ``digest``: the release that it serves, once it is ready; ``asked``: what it has to answer, by slot. ``error``: why
    it has ended, unless it was told to. ``need``: the bytes that it is expected to take.
    """

    def __init__(self, loop: Loop, app: str, terms: Terms, changed: Callable[[Worker], None]) -> None:
        self.digest, self.error, self.engine = "", "", ""
        self.ended, self.counts, self.began_s, self.need = False, Counts(), loop.now, 0
        self._loop, self._terms, self._changed = loop, terms, changed
        self.asked: dict[int, Inquiry] = {}
        self._heard_s, self._finishing, self._killed = loop.now, False, False
        self._front, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _started(theirs, app, terms)
        self._front.setblocking(False)
        loop.watch(self._front, self._first)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def most(self) -> int:
        """Bytes that a body may have."""
        return self._arena.size - wire.ALIGNED

    def ask(self, inquiry: Inquiry) -> None:
        """Raises: Refused where there is no room."""
        length = -1 if inquiry.header_length is None else inquiry.header_length
        question = wire.Question(0, inquiry.dialect, length, len(inquiry.body), inquiry.arrived_s)
        if question.size > self.most:
            raise Refused(413, f"{question.size} bytes; a request to this model has {self.most} at most")
        slot = self._slots.take(question.size)
        if slot is None:
            raise Refused(503, "too many requests wait for this model", AGAIN)
        self._arena.view(slot)[question.start : question.start + question.size] = inquiry.body
        if not self.asked:
            self._heard_s = self._loop.now
        self.asked[slot] = inquiry
        with contextlib.suppress(OSError):  # it has ended; who hears that answers for it
            self._front.send(question._replace(slot=slot).pack())

    def finish(self) -> None:
        """It answers what it was asked, and ends."""
        if not self._finishing:
            self._finishing, self._heard_s = True, self._loop.now
            with contextlib.suppress(OSError):
                self._front.shutdown(socket.SHUT_WR)

    def look(self) -> None:
        """To be called now and then: end what hangs, and give back memory that is not used."""
        waits = self.asked or self._finishing or not self.digest
        if waits and self._loop.now - self._heard_s > self._limit_s:
            self.kill()
        elif self.digest:
            self._slots.trim()

    def kill(self) -> None:
        self._killed = True
        self._process.kill()

    def memory(self) -> int:
        """Bytes of it that no other process shares."""
        try:
            resident, shared = Path(f"/proc/{self.pid}/statm").read_text().split()[1:3]
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    @property
    def _limit_s(self) -> float:
        return self._terms.timeout_s if self.digest else wire.START_S

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
            self.digest, self.engine = told["digest"], f"{told['engine']}, {told['provider']}"
            self._loop.watch(self._front, self._hear)
            self._changed(self)
        elif not packet:
            self._over()

    def _hear(self) -> None:
        try:
            packet = self._front.recv(wire.PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            return self._over()
        self._heard_s = self._loop.now
        answers = wire.answers(packet)
        _count_run(self.counts, answers)
        for answer in answers:
            self._answer(answer)
        return None

    def _answer(self, answer: wire.Answer) -> None:
        inquiry = self.asked.pop(answer.slot)
        _count(self.counts, answer, inquiry)
        headers = {"Content-Type": JSON}
        if answer.header_length >= 0:
            headers = {"Content-Type": BINARY, "Inference-Header-Content-Length": str(answer.header_length)}
        inquiry.reply(Response(answer.status, headers, (self._arena.view(answer.slot)[: answer.size],)))
        self._slots.free(answer.slot)

    def _over(self) -> None:
        self._loop.forget(self._front)
        self._front.close()
        self.ended, status = True, self._reap()
        if not (self.error or (self._finishing and not self.asked)):
            hung = f"it did not answer for {self._limit_s:g} s"
            self.error = hung if self._killed else f"it ended with {processes.ending(status)}"
        lost, self.asked = self.asked, {}
        self._changed(self)  # who is answered now may ask again at once
        for slot, inquiry in lost.items():
            _count(self.counts, wire.Answer(slot, 500), inquiry)
            inquiry.reply(self._lost(slot).response())

    def _lost(self, slot: int) -> Refused:
        """What to say to somebody whose question is not answered any more."""
        if not self._arena.running(slot):
            return Refused(503, f"the worker of this model ended before it was its turn: {self.error}", AGAIN)
        return Refused(504 if self._killed else 500, f"the worker of this model ended at this request: {self.error}")

    def _reap(self) -> int:
        """Its exit status. It has closed its socket, and so is all but gone."""
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return -9


def _started(theirs: socket.socket, app: str, terms: Terms) -> subprocess.Popen[bytes]:
    isolated = ["-I"] if sys.flags.isolated else []
    words = (theirs.fileno(), app, terms.timeout_s, terms.cache_bytes, terms.nice.get(app, 0))
    variables = {"EDGEKIT_HOME": str(terms.home), "OPENBLAS_NUM_THREADS": "1"}
    kept = {name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"}
    return subprocess.Popen(
        [sys.executable, *isolated, "-m", "edgekit_server.worker", *map(str, words)],
        env={**kept, **variables},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,
    )


def _count(counts: Counts, answer: wire.Answer, inquiry: Inquiry) -> None:
    whole = int((time.monotonic() - inquiry.arrived_s) * 1e9)
    if answer.status != 200:
        return counts.add({"fail": whole})
    if not answer.batch:
        return counts.answered({"success": whole, "cache_hit": answer.output_ns}, answer.rows, int(time.time() * 1e3))
    return counts.answered({"success": whole, **dict(zip(STAGES, answer[-4:]))}, answer.rows, int(time.time() * 1e3))


def _count_run(counts: Counts, answers: list[wire.Answer]) -> None:
    """The answers of one run are one packet. Runs of many rows are counted as ones of a power of two."""
    first = next((answer for answer in answers if answer.batch), None)
    if first:
        rows = first.batch if first.batch <= ROWS else 1 << (first.batch.bit_length() - 1)
        counts.ran(rows, dict(zip(STAGES[1:], first[-3:])))
