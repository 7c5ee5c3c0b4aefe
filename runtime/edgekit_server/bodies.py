"""Bodies: how the bytes of a request are gathered, and never more of them than were granted.

Each body asks ``hold`` for the memory before it takes it; ``hold`` raises where there is none.
"""

from __future__ import annotations

import re
import zlib
from typing import Callable

from edgekit_server.http import Refused, check_characters, too_large

Hold = Callable[[int], None]

FIRST = 128 << 10
"""What a length that was announced gets at once; the rest as bytes arrive."""
PIECE = 64 << 10
LINES = 2 << 10
LINE_MOST = 256
TRAILERS_MOST = 8 << 10
STEP = 256 << 10
CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""RFC 9110 section 8.4.1, as the window bits of zlib."""

_BROKEN = "the body is not what its content-encoding says"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_NEXT = re.compile(rb"\r\n" + _CHUNK.pattern)


class Sized:
    """A body whose length was announced. ``rest`` is what came after it."""

    def __init__(self, length: int, hold: Hold) -> None:
        self._length, self._hold, self._have = length, hold, 0
        hold(min(length, FIRST))
        self.data, self.rest = bytearray(min(length, FIRST)), b""

    @property
    def so_far(self) -> memoryview:
        return memoryview(self.data)[: self._have]

    @property
    def complete(self) -> bool:
        return self._have == self._length

    @property
    def untouched(self) -> bool:
        return not self._have

    def put(self, piece: bytes) -> None:
        """The bytes that came with the head."""
        taken = piece[: self._length]
        self._hold(max(0, len(taken) - len(self.data)))
        self.data[: len(taken)] = taken
        self._have, self.rest = len(taken), piece[len(taken) :]

    def space(self) -> memoryview:
        """Where the next bytes belong."""
        if self._have == len(self.data):
            more = min(3 * self._have, self._length - self._have)
            self._hold(more)
            self.data += bytes(more)
        return memoryview(self.data)[self._have :]

    def took(self, count: int) -> None:
        self._have += count


class Placed:
    """As Sized, in memory that is held for it already, and has so many bytes of it."""

    def __init__(self, data: memoryview, have: int) -> None:
        self.data, self.rest, self._have = data, b"", have

    @property
    def so_far(self) -> memoryview:
        return self.data[: self._have]

    @property
    def complete(self) -> bool:
        return self._have == len(self.data)

    @property
    def untouched(self) -> bool:
        return not self._have

    def space(self) -> memoryview:
        return self.data[self._have :]

    def took(self, count: int) -> None:
        self._have += count


class Chunked:
    """A body in chunks: RFC 9112 section 7.1. ``rest`` is what came after it."""

    def __init__(self, most: int, hold: Hold) -> None:
        self._most, self._hold = most, hold
        self._raw, self._early, self._left, self._line = bytearray(), b"", 0, _CHUNK
        self._trailing = False
        self.data, self.rest, self.complete = bytearray(), b"", False

    @property
    def untouched(self) -> bool:
        return self._line is _CHUNK and not self._early

    def space(self) -> memoryview:
        """Much while a chunk is large, little where there may be thousands in it: others wait meanwhile."""
        self._raw = bytearray(max(LINES, min(self._left, PIECE)))
        return memoryview(self._raw)

    def took(self, count: int) -> None:
        self.put(bytes(self._raw[:count]))

    def put(self, piece: bytes) -> None:
        """Raises: Refused for what is no chunk, and for more than is allowed."""
        piece, had, at = self._early + piece, len(self.data), 0
        while not self._trailing:
            taken = piece[at : at + self._left]
            self.data += taken
            self._left, at = self._left - len(taken), at + len(taken)
            line = None if self._left else self._line.match(piece, at)
            if line is None:
                break
            at, self._line, self._left = line.end(), _NEXT, int(line[1], 16)
            self._trailing = not self._left
            if len(self.data) + self._left > self._most:
                raise too_large(self._most)
        self._hold(len(self.data) - had)
        self._early = piece[at:]
        if self._trailing:
            self._end()
        else:
            self._check()

    def _check(self) -> None:
        if len(self._early) > LINE_MOST or b"\n" in self._early[2 if self._line is _NEXT else 0 :]:
            raise Refused(400, "malformed chunk")

    def _end(self) -> None:
        """Trailers say nothing that is of use here."""
        early = b"\r\n" + self._early
        trailers, end, rest = early.partition(b"\r\n\r\n")
        check_characters(trailers)
        if len(trailers) > TRAILERS_MOST:
            raise Refused(400, "malformed trailers")
        if end:
            self.complete, self.rest = True, rest


class Inflating:
    """A compressed body, taken apart a step at a time, so that the most compact one keeps nobody else waiting."""

    def __init__(self, coding: str, data: bytearray | memoryview, most: int, hold: Hold) -> None:
        self._zlib = zlib.decompressobj(CODINGS[coding])
        self._from, self._at, self._most, self._hold = data, 0, most, hold
        self.data = bytearray()

    def step(self) -> bool:
        """Whether it is whole. Raises: Refused."""
        early = self._zlib.unconsumed_tail
        piece = early or bytes(self._from[self._at : self._at + PIECE])
        self._at += 0 if early else len(piece)
        try:
            out = self._zlib.decompress(piece, STEP)
        except zlib.error:
            raise Refused(400, _BROKEN) from None
        if len(self.data) + len(out) > self._most:
            raise too_large(self._most)
        self._hold(len(out))
        self.data += out
        if self._zlib.eof and not self._zlib.unused_data and self._at == len(self._from):
            return True
        if self._zlib.eof or not (piece or out):
            raise Refused(400, _BROKEN)
        return False
