"""Inference: a worker's questions: each is read as it comes, waits for its turn, runs with others, and is answered."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Union

import numpy as np

from edgekit_runtime.errors import EdgekitError, InvalidInput, Overloaded
from edgekit_server import oip, tfserving
from edgekit_server.batching import answers, kind_of
from edgekit_server.caching import Cache, digest
from edgekit_server.queueing import Call, Pace, Queue
from edgekit_server.wire import Answer, Question

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgekit_runtime.session import Session
    from edgekit_server.arena import Arena
    from edgekit_server.asked import Asked

Arrays = Dict[str, "np.ndarray[Any, Any]"]
Outputs = Union[Arrays, Exception]

DIALECTS = (oip, tfserving)
STATUS = {InvalidInput: 400, Overloaded: 503, EdgekitError: 500, MemoryError: 503, TimeoutError: 504}
"""The first that fits."""
MESSAGE = 1000
LATE = "the time of the request was over before it was its turn"


@dataclass(frozen=True)
class Ticket:
    """A question that was read in so many nanoseconds; ``key`` is that of its answer in the cache."""

    question: Question
    asked: Asked
    read_ns: int
    key: bytes = b""


class Inference:
    """``names``: the model's name and version, as answers have them."""

    def __init__(self, session: Session, arena: Arena, names: tuple[str, str], pace: Pace, cache: Cache | None) -> None:
        self._session, self._arena, self._names = session, arena, names
        self._queue, self._pace, self._cache = Queue(arena.slots), pace, cache

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def hear(self, question: Question) -> list[Answer]:
        """A question comes in; its answer, if it needs no run."""
        try:
            return self._heard(question)
        except Exception as error:  # the outermost frame of a request: no other one suffers for it
            return [self._refuse(question, error)]

    def run(self) -> list[Answer]:
        """The answers of those whose time is over, and of those that are next and run together."""
        now = time.monotonic()
        late = [self._refuse(call.ticket.question, TimeoutError(LATE)) for call in self._queue.late(now)]
        calls = self._queue.take(now, self._pace)
        return late + self._run(calls) if calls else late

    def _heard(self, question: Question) -> list[Answer]:
        started = time.monotonic_ns()
        body = self._arena.view(question.slot)[question.start : question.start + question.size]
        length = question.header_length if question.header_length >= 0 else None
        asked: Asked = DIALECTS[question.dialect].decode(body, length, self._session.interface)
        kind, rows = kind_of(asked.feeds, self._session.interface)
        key = digest(asked.feeds) if self._cache else b""
        ticket = Ticket(question, asked, time.monotonic_ns() - started, key)
        kept = self._cache.get(key) if self._cache else None
        if kept is not None:
            return [self._write(ticket, kept, Answer(question.slot, 200, rows=rows))]
        until = {"deadline_s": question.arrived_s + asked.timeout_us / 1e6} if asked.timeout_us else {}
        self._queue.put(Call(ticket, kind, rows, asked.priority, arrived_s=question.arrived_s, **until))
        return []

    def _run(self, calls: list[Call]) -> list[Answer]:
        for call in calls:
            self._arena.mark(call.ticket.question.slot, running=True)
        rows, started = sum(call.rows for call in calls), time.monotonic_ns()
        try:
            outputs: Sequence[Outputs] = answers(self._session.predict, [call.ticket.asked.feeds for call in calls])
        except Exception as error:
            outputs = [error] * len(calls)
        spent = time.monotonic_ns() - started
        self._pace.ran(rows, spent / 1e9)
        return [self._answer(call, each, (rows, started, spent)) for call, each in zip(calls, outputs)]

    def _answer(self, call: Call, outputs: Outputs, ran: tuple[int, int, int]) -> Answer:
        ticket: Ticket = call.ticket
        batch, started, spent = ran
        if isinstance(outputs, Exception):
            return self._refuse(ticket.question, outputs)
        if self._cache:
            self._cache.put(ticket.key, outputs)
        waited = started - int(call.arrived_s * 1e9) - ticket.read_ns
        stages = (max(0, waited), ticket.read_ns, spent)
        try:
            return self._write(ticket, outputs, Answer(ticket.question.slot, 200, -1, 0, call.rows, batch, *stages))
        except Exception as error:
            return self._refuse(ticket.question, error)

    def _write(self, ticket: Ticket, outputs: Arrays, answer: Answer) -> Answer:
        """The answer with its body in its slot; the question is no more."""
        started, slot = time.monotonic_ns(), self._arena.view(answer.slot)
        body = DIALECTS[ticket.question.dialect].encode(ticket.asked, _apart(outputs, slot), *self._names)
        if body.size > len(slot):
            raise InvalidInput(f"the answer has {body.size} bytes", f"ask for less: {len(slot)} are the most")
        end = 0
        for part in body.parts:
            slot[end : end + len(part)] = part
            end += len(part)
        length = -1 if body.header_length is None else body.header_length
        return answer._replace(header_length=length, size=end, output_ns=time.monotonic_ns() - started)

    def _refuse(self, question: Question, error: Exception) -> Answer:
        """What is no error of ours is a mistake in here, or in an engine of somebody else: it is told in the log."""
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 0)
        if not status:
            traceback.print_exception(type(error), error, error.__traceback__)
        why = str(error) if status else f"{type(error).__name__} in the worker; its log tells more"
        body = json.dumps({"error": why[:MESSAGE] or "there is no memory for this request at present"}).encode()
        self._arena.view(question.slot)[: len(body)] = body
        return Answer(question.slot, status or 500, size=len(body))


def _apart(outputs: Arrays, slot: memoryview) -> Arrays:
    """None of them in the slot, as an engine may give back what it was given."""
    mine = np.frombuffer(slot, np.uint8)
    return {
        name: array if array.base is None or not np.may_share_memory(array, mine) else array.copy()
        for name, array in outputs.items()
    }
