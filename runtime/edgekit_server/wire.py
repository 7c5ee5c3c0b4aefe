"""Wire: what the front and a worker say to each other, by packets on a pair of sockets (SOCK_SEQPACKET).

Bodies go by the arena. The worker's first packet is JSON: that it is ready, with the arena's file beside it, or why it
cannot be. Then a packet of the front is one question, one of the worker the answers of one run. A front that asks no
more shuts its side; the worker answers what it has, and ends.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PACKET = 1 << 13
ALIGNED = 64
START_S = 600
"""How long a worker may take until it is ready: an engine may compile a model when it is loaded first."""

_QUESTION = struct.Struct("=HBqQd")
_ANSWER = struct.Struct("=HHqQIIQQQQ")


class Question(NamedTuple):
    """A body of ``size`` bytes in a slot; ``arrived_s`` is by the monotonic clock.

    ``header_length``: how many of its bytes are JSON, -1 where that is not said.
    """

    slot: int
    dialect: int
    header_length: int
    size: int
    arrived_s: float

    def pack(self) -> bytes:
        return _QUESTION.pack(*self)

    @property
    def start(self) -> int:
        """Where in its slot the body begins: so that a tensor after the JSON is aligned."""
        return -max(self.header_length, 0) % ALIGNED


class Answer(NamedTuple):
    """A body of ``size`` bytes in a slot, with its HTTP status.

    ``rows`` of it ran among ``batch``, which is 0 where nothing ran. The times, in nanoseconds, are those in the queue,
    until the tensors lay ready, in the model, and until the answer was written.
    """

    slot: int
    status: int
    header_length: int = -1
    size: int = 0
    rows: int = 0
    batch: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    def pack(self) -> bytes:
        return _ANSWER.pack(*self)


def question(packet: bytes) -> Question:
    return Question._make(_QUESTION.unpack(packet))


def answers(packet: bytes) -> list[Answer]:
    return [Answer._make(values) for values in _ANSWER.iter_unpack(packet)]
