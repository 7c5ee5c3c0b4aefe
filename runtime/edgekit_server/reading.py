"""Reading: a request as it comes in, piece by piece: its head, its body, and the body out of its compression.

No socket in here: bytes go in, a request or a refusal comes out.
"""

from __future__ import annotations

import functools
from typing import Callable

from edgekit_server.bodies import CODINGS, Chunked, Hold, Inflating, Placed, Sized
from edgekit_server.http import HEAD_MOST, Head, Refused, Request, check_characters, parse_head, too_large

Limit = Callable[[Head], int]
"""The most bytes that the body of such a request may have. Raises: Refused for one that may not come at all."""

_END = b"\r\n\r\n"
_parsed = functools.lru_cache(maxsize=64)(parse_head)
"""Most clients send the same head again and again."""


class Reading:
    """``gathered`` with its last byte; then its ``body`` is there, or after some steps more.

    ``raw``: the head as it was sent, once it is let in. ``rest`` is what is not let in, or comes after the request.
    Everything in here raises Refused.
    """

    def __init__(self, limit: Limit, hold: Hold, peer: str) -> None:
        self._limit, self._hold, self._peer, self._most = limit, hold, peer, 0
        self._body: Sized | Placed | Chunked | None = None
        self._inflating: Inflating | None = None
        self.head: Head | None = None
        self.body: bytes | bytearray | memoryview | None = None
        self.raw, self.rest, self.gathered = b"", b"", False

    @property
    def begun(self) -> bool:
        return bool(self.rest) or self.head is not None

    @property
    def request(self) -> Request | None:
        """As far as it is there."""
        if self.head is None or self.body is None:
            return None
        head = self.head
        return Request(head.method, head.path, head.query, head.headers, self.body, self._peer)

    @property
    def unanswered(self) -> bytes:
        """All that came, as it was sent; of a request whose body is not in chunks."""
        return b"".join(
            (self.raw, bytes(self._body.so_far) if isinstance(self._body, (Sized, Placed)) else b"", self.rest)
        )

    @property
    def expects(self) -> bool:
        """Whether the client waits for 100 Continue before it sends its body."""
        waits = self._body is not None and self._body.untouched
        return waits and self.head is not None and self.head.minor > 0 and "expect" in self.head.headers

    def space(self, buffer: memoryview) -> memoryview:
        """Where the next bytes are to be put; ``buffer`` where there is no better place."""
        return self._body.space() if self._body else buffer

    def took(self, space: memoryview, count: int) -> None:
        """So many bytes were put there."""
        if self._body:
            self._body.took(count)
            self._gather()
        else:
            self.put(bytes(space[:count]))

    def put(self, piece: bytes) -> None:
        """Bytes of the head, and what may come with them."""
        data = self.rest + piece
        data = data[2:] if data.startswith(b"\r\n") else data  # RFC 9112 section 2.2
        end, self.rest = data.find(_END), data
        if (len(data) if end < 0 else end) > HEAD_MOST:
            raise Refused(431, f"a head of more than {HEAD_MOST} bytes")
        if end >= 0:
            self._begin(data[: end + 4], data[end + 4 :])
        else:
            check_characters(data)

    def step(self) -> None:
        """Take the compressed body one step further."""
        if self.head and self._inflating and self._inflating.step():
            self._complete(self._inflating.data)

    def go_on(self, raw: bytes, head: Head, body: Placed) -> None:
        """With the body of a request that was let in already."""
        self.raw, self.head, self._body = raw, head, body

    def _begin(self, raw: bytes, rest: bytes) -> None:
        self.head = head = _parsed(raw)
        self._most = self._limit(head)
        self.raw, self.rest = raw, b""
        if head.coding and head.coding not in CODINGS:
            raise Refused(415, "the body has an unknown content-encoding", {"Accept-Encoding": "gzip, deflate"})
        if head.headers.get("expect", "100-continue").lower() != "100-continue":
            raise Refused(417, "the only expectation that is met here is 100-continue")
        if head.length > self._most:
            raise too_large(self._most)
        if head.chunked or head.length:
            body = Chunked(self._most, self._hold) if head.chunked else Sized(head.length, self._hold)
            self._body = body
            body.put(rest)
            self._gather()
        else:
            self.rest = rest
            self._complete(b"")

    def _gather(self) -> None:
        body, head = self._body, self.head
        if head is None or body is None or not body.complete:
            return
        self._body, self.rest, self.gathered = None, body.rest, True
        if head.coding:
            self._inflating = Inflating(head.coding, body.data, self._most, self._hold)
        else:
            self._complete(body.data)

    def _complete(self, body: bytes | bytearray | memoryview) -> None:
        self.gathered, self._inflating, self.body = True, None, body
