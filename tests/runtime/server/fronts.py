"""Fronts: the real connections in a thread of their own, with a program behind them that does as the path says."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgekit_server import connections
from edgekit_server.connections import Connections, Limits, Reply
from edgekit_server.http import Refused, Request, Response
from edgekit_server.loop import Loop

LARGE = 32 << 20


@dataclass
class Front:
    """``large`` is what /large is answered with; ``held`` are the replies that /held waits for."""

    address: tuple[str, int] | str
    loop: Loop
    asked: list[Request] = field(default_factory=list)
    held: list[Reply] = field(default_factory=list)
    large: bytearray = field(default_factory=lambda: bytearray(LARGE))

    connections: Connections = field(init=False)
    _calls: socket.socket = field(init=False)

    def handle(self, request: Request, reply: Reply) -> None:
        self.asked.append(request)
        word = request.path.strip("/").split("/", maxsplit=1)[0]
        if word == "later":
            self.loop.later(0.002, lambda: reply(Response(200, {}, (request.path.encode(), request.body))))
        elif word == "held":
            self.held.append(reply)
        elif word == "large":
            reply(Response(200, {}, (b"large", memoryview(self.large))))
            self.large[:] = b"x" * len(self.large)  # its place is used for something else
        elif word == "parts":
            reply(Response(200, {}, (b"x",) * 3000))
        elif word == "broken":
            raise RuntimeError("as asked")
        elif word == "refused":
            raise Refused(409, "as asked", {"Retry-After": "7"})
        else:
            reply(Response(200, {"X-Peer": request.peer}, (request.path.encode(), request.body)))
            reply(Response(500))  # the second one is nobody's

    def call(self, callback: object) -> None:
        """In the loop's thread, and wait until it was done."""
        done = threading.Event()
        assert callable(callback)

        def calls() -> None:
            callback()
            done.set()

        self.loop.soon(calls)
        self._calls.send(b"x")
        assert done.wait(60)

    def turns(self, count: int) -> None:
        """As many more of the loop: after two, it has read what had been sent before."""
        for _ in range(count):
            self.call(lambda: None)

    def client(self) -> socket.socket:
        kind = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        client = socket.socket(kind)
        client.settimeout(60)
        try:
            client.connect(self.address)
        except OSError:
            client.close()
            raise
        return client


@contextlib.contextmanager
def front(
    limits: Limits | None = None,
    path: Path | None = None,
    look_s: float = 0.02,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Front]:
    """On TCP, or on a Unix socket; it looks for clients that are overdue every ``look_s``."""
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(str(path) if path else ("127.0.0.1", 0))
    listener.listen(512)
    before, connections.LOOK_S = connections.LOOK_S, look_s
    one = Front(listener.getsockname(), Loop(clock))
    one.connections = Connections(one.loop, listener, one.handle, limits)
    ears, one._calls = socket.socketpair()
    one.loop.watch(ears, lambda: ears.recv(1))
    thread = threading.Thread(target=one.loop.run, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.call(one.loop.stop)
        thread.join(60)
        connections.LOOK_S = before
        for each in (*one.connections.open, listener, ears, one._calls):
            each.close()


def request(path: str, body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *length, *lines, "", "")).encode() + body


def answer(client: socket.socket, method: str = "POST") -> tuple[int, dict[str, str], bytes]:
    """The next one; what is ahead of it in the socket is not touched."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise ConnectionError(f"ended after {head!r}")
        head += byte
    lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    body = memoryview(bytearray(0 if method == "HEAD" else int(headers["content-length"])))
    at = 0
    while at < len(body):
        count = client.recv_into(body[at:])
        if not count:
            raise ConnectionError(f"ended after {at} bytes of a body")
        at += count
    return int(lines[0].split()[1]), headers, bytes(body)


def error(client: socket.socket) -> int:
    """The status of a refusal that has the form of one, after which the connection ends."""
    status, headers, body = answer(client)
    document = json.loads(body)
    assert list(document) == ["error"] and isinstance(document["error"], str) and "\n" not in document["error"]
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert status >= 400 and status in http.client.responses
    with contextlib.suppress(ConnectionResetError):
        assert not client.recv(1)
    return status


def within(seconds: float, truth: object) -> None:
    """Wait until it is so."""
    assert callable(truth)
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.005)
