"""Slotted: a question whose body lies in a slot of the arena, where its answer is to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit_server import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit_server.arena import Arena
    from edgekit_server.asked import Answer
    from edgekit_server.http import Bytes


class Slotted:
    """As ``inference.Question``. ``ready`` takes its answer, which is in the slot then."""

    __slots__ = ("_ready", "_slot", "arrived_ns", "body", "dialect", "header_length", "mark", "most")

    def __init__(self, question: wire.Question, arena: Arena, ready: list[wire.Answer]) -> None:
        self._slot, self._ready = arena.view(question.slot), ready
        self.body = self._slot[question.start : question.start + question.size]
        self.header_length = question.header_length if question.header_length >= 0 else None
        self.dialect, self.arrived_ns = question.dialect, question.arrived_ns
        self.mark, self.most = question.slot, len(self._slot)

    def answer(self, status: int, answer: Answer) -> None:
        end = 0
        for part in list(self._apart(answer)):
            self._slot[end : end + len(part)] = part
            end += len(part)
        length = -1 if answer.header_length is None else answer.header_length
        self._ready.append(wire.Answer(self.mark, status, length, end))

    def _apart(self, answer: Answer) -> Iterator[Bytes]:
        """No part of it in the slot, as an engine may give back what it was given."""
        mine = np.frombuffer(self._slot, np.uint8)
        yield answer.header
        for part in answer.tensors:
            shared = part and np.may_share_memory(np.frombuffer(part, np.uint8), mine)
            yield bytes(part) if shared else part
