"""Loans: the connections that the front has lent to a worker, which then reads from them and answers by itself.

The front keeps a descriptor of each of them, and their marks are on the worker's page. So it knows what to tell every
client when the worker dies; and those that have asked nothing do not notice.
"""

from __future__ import annotations

import socket
from array import array
from typing import TYPE_CHECKING

from edgekit_server import wire
from edgekit_server.page import ANSWERING, GUESTS, IDLE, RUNNING, SLOTS, WAITING

if TYPE_CHECKING:
    from edgekit_server.connection import Connection
    from edgekit_server.http import Refused
    from edgekit_server.page import Page


class Loans:
    """``front``: the pair's socket to the worker."""

    def __init__(self, front: socket.socket, page: Page) -> None:
        self._front, self._page = front, page
        self._free = list(range(GUESTS))
        self._lent: dict[int, Connection] = {}
        self._parts: dict[int, bytes] = {}

    @property
    def number(self) -> int:
        return len(self._lent)

    @property
    def busy(self) -> bool:
        """Whether one of them has something under way."""
        return any(self._page.marks[SLOTS:])

    def lend(self, connection: Connection) -> None:
        """If there is a place for it. A worker that has ended, or hears nothing at present, is not lent any."""
        if not self._free:
            return
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [connection.lend()]))]
        packet = wire.placed(wire.LEND, self._free[-1], connection.peer.encode())
        try:
            self._front.sendmsg([packet], beside)
        except OSError:
            connection.resume()
        else:
            self._lent[self._free.pop()] = connection

    def heard(self, packet: bytes) -> None:
        """Of the worker: BACK, PART or GONE."""
        place, data = wire.place(packet)
        if packet[0] == wire.PART:
            self._parts[place] = self._parts.get(place, b"") + data
            return
        connection, early = self._lent.pop(place), self._parts.pop(place, b"")
        self._free.append(place)
        if packet[0] == wire.BACK:
            connection.resume(early + data)
        else:
            connection.close()

    def lost(self, waited: Refused, ran: Refused) -> list[int]:
        """The worker is no more: everybody is told. The statuses of those who had asked something."""
        lent, self._lent, told = self._lent, {}, []
        for place, connection in lent.items():
            mark = self._page.marks[SLOTS + place]
            refused = ran if mark == RUNNING else waited
            if mark in (WAITING, RUNNING):
                told.append(refused.status)
            if mark == IDLE:
                connection.resume()
            elif mark == ANSWERING:  # nobody knows how much of it is out
                connection.close()
            else:
                connection.refuse(refused)
        return told
