"""Guests: the connections that the front has lent to this worker, and what all of them together may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from edgekit_server.arena import MOST
from edgekit_server.connections import Clients, Limits
from edgekit_server.guest import Guest
from edgekit_server.http import Refused
from edgekit_server.rooms import Rooms

if TYPE_CHECKING:
    import socket

    from edgekit_server.connections import Reply
    from edgekit_server.errands import Errands
    from edgekit_server.http import Request
    from edgekit_server.inference import Inference
    from edgekit_server.loop import Loop

Tell = Callable[[bytes], None]
"""Send the front a packet."""


class Guests(Clients):
    """``ending``: they go back to the front as soon as they may."""

    def __init__(self, loop: Loop, inference: Inference, errands: Errands, tell: Tell) -> None:
        super().__init__(loop, _no_other, Limits(held=MOST))
        self.inference, self.errands, self.tell = inference, errands, tell
        self.page, self.marks, self.rooms = inference.page, inference.page.marks, Rooms()

    def take(self, connected: socket.socket, peer: str, place: int) -> None:
        connected.setblocking(False)
        guest = Guest(connected, peer, self, place)
        self.open.add(guest)
        if self.ending:
            guest.recall()

    def recall(self) -> None:
        """Those that have something under way are answered first."""
        self.ending = True
        for guest in list(self.open):
            if isinstance(guest, Guest):
                guest.recall()


def _no_other(request: Request, reply: Reply) -> None:
    raise Refused(421, "only the front answers this")
