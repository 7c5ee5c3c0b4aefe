"""A connection to a server: one request at a time, and its answer held against the right one."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from benchmarks.serve.task import Array, Task
from benchmarks.serve.wire import Dialect, Head, split
from edgekit.errors import EdgekitError

TIMEOUT_S = 30.0
PIECE = 1 << 16
CLOSE = 1e-3
"""How far an answer may be from what onnxruntime gave here: another release of it, or batching, moves the last bits."""


@dataclass(frozen=True)
class Question:
    """A request, and what its answer must hold."""

    request: bytes
    answer: Array
    known: set[bytes] = field(default_factory=set)
    """Answers, as bytes, that were looked at and are right."""


def questions(task: Task, dialect: Dialect) -> list[Question]:
    return [Question(dialect.request(x), y) for x, y in zip(task.inputs, task.answers, strict=True)]


class Connection:
    """It never blocks: ``waits_for`` tells a selector what for."""

    def __init__(self, port: int, dialect: Dialect) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._dialect, self._unsent, self._got = dialect, memoryview(b""), bytearray()
        self._question: Question | None = None
        self._started = 0

    def ask(self, question: Question) -> None:
        self._question, self._unsent = question, memoryview(question.request)
        self._got.clear()
        self._started = time.perf_counter_ns()
        self.send()

    def send(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]

    @property
    def waits_for(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def heard(self) -> float | None:
        """Read what is there: milliseconds from the request to its answer, once this is whole. Raises: EdgekitError."""
        with suppress(BlockingIOError):
            piece = self.socket.recv(PIECE)
            if not piece:
                raise EdgekitError("the server closed the connection")
            self._got += piece
        whole = split(self._got)
        if whole is None:
            return None
        taken_ms = (time.perf_counter_ns() - self._started) / 1e6
        assert self._question is not None
        check(self._question, self._dialect, *whole)
        return taken_ms


def check(question: Question, dialect: Dialect, status: int, head: Head, body: bytes) -> None:
    """Raises: EdgekitError when this is not the answer."""
    if status != 200:
        raise EdgekitError(f"answered {status}: {body[:200]!r}")
    tensor = dialect.tensor(head, body)
    if tensor in question.known:
        return
    if len(tensor) != question.answer.nbytes or not _near(tensor, question.answer):
        raise EdgekitError("a wrong answer")
    question.known.add(tensor)


def _near(tensor: bytes, answer: Array) -> bool:
    return bool(np.allclose(np.frombuffer(tensor, np.float32), answer.ravel(), rtol=CLOSE, atol=CLOSE))
