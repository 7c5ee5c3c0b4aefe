"""Service: a worker at its work. It hears the front and its guests, and runs the model, until the front has enough."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
from array import array
from typing import TYPE_CHECKING

from edgekit_server import wire
from edgekit_server.admission import Admission
from edgekit_server.errands import Errands
from edgekit_server.guests import Guests
from edgekit_server.loop import Loop
from edgekit_server.slotted import Slotted

if TYPE_CHECKING:
    from edgekit_server.arena import Arena
    from edgekit_server.inference import Inference

GRACE_S = 10
"""How much longer than the front waits: then there is no front any more, and what hangs ends itself."""
TICK_S = 1.0
HEARD = 1 << 13
"""Bytes that a packet of the front may have: a token is its longest."""


class Service:
    """``timeout_s``: how long the front waits for a sign of life."""

    def __init__(self, front: socket.socket, arena: Arena, inference: Inference, timeout_s: float) -> None:
        self._front, self._arena, self._inference = front, arena, inference
        self._ready: list[wire.Answer] = []
        self._asks, self._loop = True, Loop()
        self._limit, self._tick_s = math.ceil(timeout_s) + GRACE_S, min(TICK_S, timeout_s / 4)
        errands = Errands(inference.names, Admission(), arena.size - wire.ALIGNED)
        self._guests = Guests(self._loop, inference, errands, self._tell)
        self._loop.watch(front, self._hear)

    def run(self) -> None:
        """Until the front asks no more, or is gone."""
        loop, inference, page = self._loop, self._inference, self._arena.page
        self._tick()
        while self._asks or len(inference) or self._guests.open:
            loop.turn(not len(inference))
            page.turned(loop.now)
            inference.run()
            if self._ready:
                self._tell(wire.pack_answers(self._ready))
                self._ready.clear()
        signal.alarm(0)

    def _tick(self) -> None:
        """A kernel that hangs comes to no other signal than one that ends the process."""
        signal.alarm(self._limit)
        self._loop.later(self._tick_s, self._tick)

    def _tell(self, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a front that is gone is noticed in ``_hear``
            self._front.send(packet)

    def _hear(self) -> None:
        """All that has come: what waits at the same time may run together."""
        size = socket.CMSG_SPACE(array("i").itemsize)
        while self._asks:
            try:
                packet, beside, _, _ = self._front.recvmsg(HEARD, size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if packet:
                self._heard(packet, [array("i", data)[0] for _, _, data in beside])
            else:
                self._asks = False
                self._loop.forget(self._front)
                self._guests.recall()

    def _heard(self, packet: bytes, files: list[int]) -> None:
        what = packet[0]
        if what == wire.QUESTION:
            self._inference.ask(Slotted(wire.question(packet), self._arena, self._ready))
        elif what == wire.LEND:
            place, peer = wire.place(packet)
            self._guests.take(socket.socket(fileno=files[0]), peer.decode(), place)
        elif what == wire.TOKEN:
            self._guests.errands.admission = Admission(packet[1:].decode())
        else:
            self._guests.recall()
