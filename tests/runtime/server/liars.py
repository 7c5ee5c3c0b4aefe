"""Liars: clients that tell lies, and listen to what they are told."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.runtime.server.fronts import answer
from tests.runtime.server.lies import TRUE, Lie

HANGS_S = 5.0
"""Who hears nothing for so long is kept waiting by the server."""
SLACK_S = 20.0
"""What a busy machine may add to that; a server that forgets somebody adds more."""
AT_ONCE = 4

Address = tuple[str, int]


@dataclass
class Tally:
    """``statuses`` of all answers, ``kinds`` of lies."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    def add(self, other: Tally) -> None:
        self.statuses += other.statuses
        self.kinds += other.kinds
        self.longest_s = max(self.longest_s, other.longest_s)


def connected(address: Address) -> socket.socket:
    client = socket.create_connection(address, timeout=HANGS_S + SLACK_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def tell(address: Address, told: Lie, right: np.ndarray, tally: Tally) -> None:  # type: ignore[type-arg]
    """One lie, and what comes of it until the server ends the connection. Fails for what is no answer, and for none."""
    tally.kinds[told.kind] += 1
    with connected(address) as client:
        for _ in range(told.after):
            _ask(client, right)
        began = time.monotonic()
        data = _heard(client, told)
        tally.longest_s = max(tally.longest_s, time.monotonic() - began)
    found = answers(data, told.data.startswith(b"HEAD "))
    assert found or told.leaves, "no answer"
    tally.statuses.update(found)


def _ask(client: socket.socket, right: np.ndarray) -> None:  # type: ignore[type-arg]
    client.sendall(TRUE)
    status, headers, body = answer(client)
    assert status == 200
    got = np.frombuffer(body[int(headers["inference-header-content-length"]) :], np.float32)
    np.testing.assert_allclose(got.reshape(1, 3), right, rtol=1e-4)


def _heard(client: socket.socket, told: Lie) -> bytes:
    """Everything, as whoever says no more may still listen."""
    for at in range(0, len(told.data), told.piece):
        client.sendall(told.data[at : at + told.piece])
    if told.leaves:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST: socket(7)
        return b""
    client.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def answers(data: bytes, heads: bool) -> list[int]:
    """The statuses of what a server has sent; ``heads``: to a request that gets no body. Fails for anything else."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert end and version == "HTTP/1.1", head
        if status == "100":
            continue
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = 0 if heads and not data else int(headers["content-length"])
        body, data = data[:length], data[length:]
        assert len(body) == length
        if int(status) >= 400 and body:
            error = json.loads(body)
            assert list(error) == ["error"] and isinstance(error["error"], str) and "\n" not in error["error"], body
        assert int(status) == 200 or int(status) >= 400
        found.append(int(status))
    return found


def tell_all(address: Address, told: Sequence[Lie], right: np.ndarray, per_s: float = 1e9) -> Tally:  # type: ignore[type-arg]
    """By some liars at once, so many a second. Fails with the number of the first that brought something wrong."""
    began = time.monotonic()
    whole, failures = Tally(), list[Exception]()

    def liar(number: int) -> None:
        mine = Tally()
        for at in range(number, len(told), AT_ONCE):
            if failures:
                return
            time.sleep(max(0.0, began + at / per_s - time.monotonic()))
            try:
                tell(address, told[at], right, mine)
            except Exception as error:
                error.add_note(f"number {at}, {told[at].kind}: {told[at].data[:1000]!r}")
                failures.append(error)
        whole.add(mine)

    threads = [threading.Thread(target=liar, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return whole
