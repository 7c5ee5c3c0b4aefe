"""The load: so many connections, each with one request under way for a time.

One thread on bare sockets, the same for all: it sends what was made beforehand and looks at bytes, so that it costs far
less than any server.
"""

from __future__ import annotations

import gc
import selectors
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from benchmarks.serve.connection import TIMEOUT_S, Connection, Question
from benchmarks.serve.wire import Dialect
from edgekit.errors import EdgekitError


@dataclass(frozen=True)
class Heard:
    """Milliseconds of every request, in the order of their answers, and the seconds of them all."""

    latencies_ms: tuple[float, ...]
    seconds: float


def put(port: int, dialect: Dialect, asked: Sequence[Question], how: tuple[int, float]) -> Heard:
    """``how``: so many at a time, for so many seconds. All get their answers. Raises: EdgekitError, OSError."""
    number, seconds = how
    connections = list[Connection]()
    gc.disable()
    try:
        connections += (Connection(port, dialect) for _ in range(number))
        with selectors.DefaultSelector() as selector:
            return _put(Crowd(connections, asked, selector), seconds)
    finally:
        gc.enable()
        for connection in connections:
            connection.socket.close()


class Crowd:
    """Connections that ask what comes next in turn."""

    def __init__(
        self, connections: Sequence[Connection], asked: Sequence[Question], selector: selectors.BaseSelector
    ) -> None:
        self._next, self._selector, self.under_way = cycle(asked), selector, 0
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            self.ask(connection)

    def ask(self, connection: Connection) -> None:
        connection.ask(next(self._next))
        self.under_way += 1
        self._watch(connection)

    def answered(self) -> Iterator[tuple[Connection, float]]:
        """Those whose answer is whole by now, and its milliseconds. Raises: EdgekitError."""
        ready = self._selector.select(TIMEOUT_S)
        if not ready:
            raise EdgekitError(f"no answer in {TIMEOUT_S:.0f} s")
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.data.send()
                self._watch(key.data)
            taken_ms = key.data.heard() if events & selectors.EVENT_READ else None
            if taken_ms is not None:
                self.under_way -= 1
                yield key.data, taken_ms

    def _watch(self, connection: Connection) -> None:
        if self._selector.get_key(connection.socket).events != connection.waits_for:
            self._selector.modify(connection.socket, connection.waits_for, connection)


def _put(crowd: Crowd, seconds: float) -> Heard:
    latencies, started = list[float](), time.perf_counter()
    while crowd.under_way:
        for connection, taken_ms in crowd.answered():
            latencies.append(taken_ms)
            if time.perf_counter() - started < seconds:
                crowd.ask(connection)
    return Heard(tuple(latencies), time.perf_counter() - started)
