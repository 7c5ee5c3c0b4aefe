"""Halls: a house whose front listens, and clients that keep their connections; in one thread, turned by the test."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_server.connections import Connections
from edgekit_server.front import Front
from edgekit_server.workers import Worker
from tests.runtime.bundles import APP
from tests.runtime.server.house import LENGTH, Got, House, binary

INFER = f"/v2/models/{APP}/infer"


def request(body: bytes, length: int | None = None, *lines: str, path: str = INFER, method: str = "POST") -> bytes:
    told = [] if length is None else [f"{LENGTH}: {length}"]
    return (
        "\r\n".join((f"{method} {path} HTTP/1.1", "Host: [::1]", f"Content-Length: {len(body)}", *told, *lines, "", ""))
    ).encode() + body


def infer(x: NDArray[np.float32], *lines: str, path: str = INFER, **parameters: Any) -> bytes:
    return request(*binary(x, **parameters), *lines, path=path)


class Client:
    """It never blocks; ``ended`` once the server has closed the connection."""

    def __init__(self, hall: Hall) -> None:
        self._hall, self._got, self.ended = hall, b"", False
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.socket.connect(hall.address)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        rest = memoryview(data)

        def sent() -> bool:
            nonlocal rest
            with contextlib.suppress(BlockingIOError):
                rest = rest[self.socket.send(rest) :]
            return not rest

        self._hall.house.until(sent)

    def next(self) -> Got | None:
        """The next answer, if it is whole."""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            piece = self.socket.recv(1 << 20)
            self._got += piece
            self.ended = self.ended or not piece
        head, mark, rest = self._got.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers.get("Content-Length", 0))
        if not mark or len(rest) < size:
            return None
        self._got = rest[size:]
        return Got(int(first.split()[1]), headers, rest[:size])

    def answer(self) -> Got:
        found: list[Got] = []

        def heard() -> bool:
            got = self.next()
            found.extend([got] if got else [])
            return bool(found) or self.ended

        self._hall.house.until(heard)
        assert found, "the connection has ended"
        return found[0]

    def ask(self, x: NDArray[np.float32], *lines: str, path: str = INFER, **parameters: Any) -> Got:
        self.send(infer(x, *lines, path=path, **parameters))
        return self.answer()

    def get(self, path: str) -> Got:
        self.send(request(b"", path=path, method="GET"))
        return self.answer()


class Hall:
    def __init__(self, house: House, token: str = "") -> None:
        self.house = house
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.connections = Connections(house.loop, self._listener, Front(house.residents, token).handle)
        self._clients: list[Client] = []

    def client(self) -> Client:
        self._clients.append(Client(self))
        return self._clients[-1]

    def guest(self, x: NDArray[np.float32], *lines: str, app: str = APP) -> Client:
        """A client whose connection has been lent."""
        client, lent = self.client(), self.lent(app)
        for _ in range(2):
            assert client.ask(x, *lines, path=f"/v2/models/{app}/infer").status == 200
        self.house.until(lambda: self.lent(app) > lent)
        return client

    def lent(self, app: str = APP) -> int:
        """How many connections the app's worker has."""
        serving = self.house.residents.find(app).serving
        return serving.lent if serving else 0

    def worker(self, app: str = APP) -> Worker:
        return self.house.ready(app)

    def clear(self) -> None:
        """All clients go."""
        for client in self._clients:
            client.socket.close()
        self._clients.clear()
        self.house.until(lambda: not self.connections.open)

    def close(self) -> None:
        ended: list[bool] = []
        self.house.residents.recall()
        self.connections.end(lambda: ended.append(True))
        for client in self._clients:
            client.socket.close()
        self.house.until(lambda: ended)


@contextlib.contextmanager
def opened(house: House, token: str = "") -> Iterator[Hall]:
    with contextlib.closing(Hall(house, token)) as hall:
        yield hall


Open = Callable[..., House]
