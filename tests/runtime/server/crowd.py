"""A crowd of clients, most of whom say nothing, and some a byte a second."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator

from tests.runtime.server.fronts import answer
from tests.runtime.server.liars import HANGS_S, SLACK_S, Address, connected
from tests.runtime.server.lies import TRUE
from tests.runtime.server.words import INFER

IDLE, DRIPS = 1000, 10
DRIP = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n".encode()


@contextlib.contextmanager
def crowd(address: Address) -> Iterator[None]:
    """Who drips is refused, and in time, whoever reads; who is idle is left in peace."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(address)) for _ in range(IDLE)]
        slow = [stack.enter_context(connected(address)) for _ in range(DRIPS)]
        for client in slow[::2]:
            for _ in range(4):
                client.sendall(TRUE)
                assert answer(client)[0] == 200
        told: list[tuple[int, float]] = []
        dripping = threading.Thread(target=_drip, args=(slow, told))
        dripping.start()
        yield
        dripping.join()
        assert [status for status, _ in told] == [408] * DRIPS
        assert max(seconds for _, seconds in told) < HANGS_S + SLACK_S, told
        assert not _ready(idle, 0)


def _ready(clients: list[socket.socket], seconds: float) -> list[socket.socket]:
    """Those that have been told something. select(2) takes no descriptor above 1,023."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    ready = {number for number, _ in poll.poll(seconds * 1000)}
    return [client for client in clients if client.fileno() in ready]


def _drip(slow: list[socket.socket], told: list[tuple[int, float]]) -> None:
    """From different places of a request on, a byte a second, until all are answered. ``told``: statuses and when."""
    began, left = time.monotonic(), list(slow)
    for number, client in enumerate(slow):
        client.sendall(DRIP[: 1 + number * len(DRIP) // DRIPS])
    while left and time.monotonic() < began + HANGS_S + SLACK_S:
        for client in _ready(left, 1):
            told.append((answer(client)[0], time.monotonic() - began))
            left.remove(client)
        for client in left:
            client.send(b"x")
