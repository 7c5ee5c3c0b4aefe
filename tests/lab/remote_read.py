"""What Prometheus asks a remote store for while it evaluates an expression: each of its selectors, by its own parser.

Requests are in protobuf, in the block format of Snappy (https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/,
https://github.com/google/snappy/blob/main/format_description.txt).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTHING = b"\x02\x04\x0a\x00"
"""One result without a series, as a literal."""


@dataclass(frozen=True)
class Selector:
    """A metric's name, and the labels that are asked of it."""

    name: str
    labels: frozenset[str]


@dataclass
class Asked:
    """What has been asked since it was ``clear``."""

    url: str = ""
    selectors: list[Selector] = field(default_factory=list)


@contextmanager
def listening() -> Iterator[Asked]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.selectors.extend(selectors(unpacked(body)))
            self.send_response(200)
            for name, text in (
                ("Content-Type", "application/x-protobuf"),
                ("Content-Encoding", "snappy"),
                ("Content-Length", str(len(NOTHING))),
            ):
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(NOTHING)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        asked.url = f"http://127.0.0.1:{server.server_port}/read"
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def selectors(request: bytes) -> Iterator[Selector]:
    """Of a ReadRequest: queries (1), their matchers (3), each with a type (1), a name (2) and a value (3)."""
    for number, query in _fields(request):
        if number == 1:
            matchers = [dict(_fields(value)) for field_, value in _fields(query) if field_ == 3]
            told = {matcher[2].decode(): matcher.get(3, b"").decode() for matcher in matchers}
            yield Selector(told.pop("__name__"), frozenset(told))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each with its number; what is no text, bytes or message is left out."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        size, at = _varint(data, at)  # or the number itself
        if key & 7 == 2:
            yield key >> 3, data[at : at + size]
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at


def unpacked(data: bytes) -> bytes:
    """Literals, and copies of what stands before."""
    size, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        if tag & 3 == 0:
            length, more = tag >> 2, max(0, (tag >> 2) - 59)
            if more:
                length = int.from_bytes(data[at : at + more], "little")
            at += more
            out += data[at : at + length + 1]
            at += length + 1
        else:
            wide = (1, 2, 4)[(tag & 3) - 1]
            offset = int.from_bytes(data[at : at + wide], "little") | (tag >> 5 << 8 if wide == 1 else 0)
            at += wide
            for _ in range((tag >> 2 & 7) + 4 if wide == 1 else (tag >> 2) + 1):
                out.append(out[-offset])
    assert len(out) == size
    return bytes(out)
