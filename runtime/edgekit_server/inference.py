"""Inference: what a worker is asked: each is read as it comes, waits its turn, runs with others, is answered."""

from __future__ import annotations

import json
import time
import traceback
from typing import TYPE_CHECKING, Dict, NamedTuple, Protocol, Union

import numpy as np

from edgekit_runtime.errors import EdgekitError, InvalidInput, Overloaded
from edgekit_server import oip, tfserving
from edgekit_server.asked import Answer
from edgekit_server.batching import answers, kind_of
from edgekit_server.caching import Cache, digest
from edgekit_server.page import RUNNING, SLOTS
from edgekit_server.queueing import Call, Pace, Queue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgekit_runtime.session import Session
    from edgekit_server.asked import Asked
    from edgekit_server.page import Page

Arrays = Dict[str, "np.ndarray[Any, Any]"]
Outputs = Union[Arrays, Exception]

DIALECTS = (oip, tfserving)
STATUS = {InvalidInput: 400, Overloaded: 503, EdgekitError: 500, MemoryError: 503, TimeoutError: 504}
"""The first that fits."""
MESSAGE = 1000
LATE = "the time of the request was over before it was its turn"


class Question(Protocol):
    """Who asks, and what for: ``body`` in one of the DIALECTS, of which ``header_length`` bytes are JSON (None: all).

    ``arrived_ns`` by the monotonic clock; ``mark``: its place on the page; ``most``: the bytes that an answer may have.
    """

    body: memoryview
    dialect: int
    header_length: int | None
    arrived_ns: int
    mark: int
    most: int

    def answer(self, status: int, answer: Answer) -> None:
        """Called once. Nobody looks at the tensors of the answer after it is back."""


class Ticket(NamedTuple):
    """A question that was read in so many nanoseconds; ``key`` is that of its answer in the cache."""

    question: Question
    asked: Asked
    read_ns: int
    key: bytes


class Inference:
    """``names``: the model's name and version, as answers have them. All is counted on the page."""

    def __init__(self, session: Session, page: Page, names: tuple[str, str], pace: Pace, cache: Cache | None) -> None:
        self._session, self.names, self._pace, self._cache = session, names, pace, cache
        self.page, self._marks, self._tally = page, page.marks, page.tally
        self._queue, self._uncounted = Queue(SLOTS), 0
        self._recorder = session.recorder
        if self._recorder and cache:
            self._recorder.ask = cache.counted

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def ask(self, question: Question) -> None:
        """A question comes in; it is answered at once, if it needs no run."""
        try:
            self._ask(question)
        except Exception as error:  # the outermost frame of a request: no other one suffers for it
            self._refuse(question, error)

    def run(self) -> None:
        """Answer those whose time is over, and those that are next and run together."""
        if not len(self._queue):
            return
        now = time.monotonic()
        for late in self._queue.late(now):
            self._refuse(late.ticket.question, TimeoutError(LATE))
        calls = self._queue.take(now, self._pace)
        if calls:
            self._run(calls)

    def _ask(self, question: Question) -> None:
        started = time.monotonic_ns()
        interface = self._session.interface
        asked: Asked = DIALECTS[question.dialect].decode(question.body, question.header_length, interface)
        kind, rows = kind_of(asked.feeds, interface)
        key = digest(asked.feeds) if self._cache else b""
        ticket = Ticket(question, asked, time.monotonic_ns() - started, key)
        kept = self._cache.get(key) if self._cache else None
        if kept is not None:
            return self._repeat(ticket, kept, rows)
        arrived_s = question.arrived_ns / 1e9
        until = {"deadline_s": arrived_s + asked.timeout_us / 1e6} if asked.timeout_us else {}
        self._queue.put(Call(ticket, kind, rows, asked.priority, arrived_s=arrived_s, **until))
        return None

    def _repeat(self, ticket: Ticket, kept: Arrays, rows: int) -> None:
        answer, output_ns = self._encoded(ticket, kept)
        self._tally.kept(time.monotonic_ns() - ticket.question.arrived_ns, rows, output_ns)
        ticket.question.answer(200, answer)

    def _run(self, calls: list[Call]) -> None:
        for call in calls:
            self._marks[call.ticket.question.mark] = RUNNING
        rows, started = sum(call.rows for call in calls), time.monotonic_ns()
        try:
            outputs: Sequence[Outputs] = answers(self._session.predict, [call.ticket.asked.feeds for call in calls])
        except Exception as error:
            outputs = [error] * len(calls)
        spent = time.monotonic_ns() - started
        self._pace.ran(rows, spent / 1e9)
        self._uncounted = rows
        for call, each in zip(calls, outputs):
            self._answer(call, each, (started, spent))

    def _answer(self, call: Call, outputs: Outputs, ran: tuple[int, int]) -> None:
        ticket: Ticket = call.ticket
        question, (started, spent) = ticket.question, ran
        if isinstance(outputs, Exception):
            return self._refuse(question, outputs)
        if self._cache:
            self._cache.put(ticket.key, outputs)
        try:
            answer, output_ns = self._encoded(ticket, outputs)
        except Exception as error:
            return self._refuse(question, error)
        waited = max(0, started - question.arrived_ns - ticket.read_ns)
        stages = (waited, ticket.read_ns, spent, output_ns)
        if self._uncounted:
            self._tally.ran(self._uncounted, stages)
            self._uncounted = 0
        self._tally.answered(time.monotonic_ns() - question.arrived_ns, call.rows, stages)
        if self._recorder:
            self._recorder.waited(waited)
        return question.answer(200, answer)

    def _encoded(self, ticket: Ticket, outputs: Arrays) -> tuple[Answer, int]:
        """And in how many nanoseconds. Raises: InvalidInput, EngineError."""
        started, question = time.monotonic_ns(), ticket.question
        answer: Answer = DIALECTS[question.dialect].encode(ticket.asked, outputs, *self.names)
        if answer.size > question.most:
            raise InvalidInput(f"the answer has {answer.size} bytes", f"ask for less: {question.most} are the most")
        return answer, time.monotonic_ns() - started

    def _refuse(self, question: Question, error: Exception) -> None:
        """What is no error of ours is a mistake in here, or in an engine of somebody else: it is told in the log."""
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 0)
        if not status:
            traceback.print_exception(type(error), error, error.__traceback__)
        why = str(error) if status else f"{type(error).__name__} in the worker; its log tells more"
        body = json.dumps({"error": why[:MESSAGE] or "there is no memory for this request at present"}).encode()
        self._tally.failed(time.monotonic_ns() - question.arrived_ns)
        question.answer(status or 500, Answer(body))
