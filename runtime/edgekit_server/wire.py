"""Wire: what the front and a worker say to each other, by packets on a pair of sockets (SOCK_SEQPACKET).

Bodies go by the arena, or on connections that the front lends to the worker. The worker's first packet is JSON: that it
is ready, with the arena's file beside it, or why it cannot be. After it a packet begins with a byte that says what it
is. A front that wants the worker to end shuts its side; the worker answers what it has, gives back what it was lent,
and ends.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

PACKET = 1 << 16
PIECE = PACKET - 16
"""Bytes of a connection that fit in a packet which gives it back."""
ALIGNED = 64
START_S = 600
"""How long a worker may take until it is ready: an engine may compile a model when it is loaded first."""

OIP, TF_SERVING = range(2)
"""The places of the dialects in ``inference.DIALECTS``."""
TOKEN, QUESTION, LEND, RECALL = b"TQLR"
"""Of the front: what requests must bear; a question in the arena; a connection, beside the packet; that all connections
are to come back, and no other is lent."""
ANSWERS, BACK, PART, GONE = b"ABPG"
"""Of the worker: the answers of one run; a connection is given back, with the last of what was read from it, or a part
of that before; a connection has ended."""

_QUESTION = struct.Struct("=BHBqQq")
_ANSWER = struct.Struct("=HHqQ")
_PLACE = struct.Struct("=BB")


class Question(NamedTuple):
    """A body of ``size`` bytes in a slot; ``arrived_ns`` is by the monotonic clock.

    ``header_length``: how many of its bytes are JSON, -1 where that is not said.
    """

    slot: int
    dialect: int
    header_length: int
    size: int
    arrived_ns: int

    def pack(self) -> bytes:
        return _QUESTION.pack(QUESTION, *self)

    @property
    def start(self) -> int:
        """Where in its slot the body begins: so that a tensor after the JSON is aligned."""
        return -max(self.header_length, 0) % ALIGNED


class Answer(NamedTuple):
    """A body of ``size`` bytes in a slot, with its HTTP status."""

    slot: int
    status: int
    header_length: int = -1
    size: int = 0


def question(packet: bytes) -> Question:
    return Question._make(_QUESTION.unpack(packet)[1:])


def pack_answers(each: list[Answer]) -> bytes:
    return bytes((ANSWERS,)) + b"".join(_ANSWER.pack(*answer) for answer in each)


def answers(packet: bytes) -> list[Answer]:
    return [Answer._make(values) for values in _ANSWER.iter_unpack(packet[1:])]


def placed(what: int, place: int, data: bytes = b"") -> bytes:
    """A packet about the connection at a place: LEND with the client's address, BACK and PART with bytes, or GONE."""
    return _PLACE.pack(what, place) + data


def place(packet: bytes) -> tuple[int, bytes]:
    """Which connection such a packet is about, and what comes with it."""
    return packet[1], packet[_PLACE.size :]
