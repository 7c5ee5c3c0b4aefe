"""HTTP/1.1 as bytes: heads that come in, answers that go out. RFC 9110 and 9112, read strictly; nothing is guessed."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Callable, Mapping, Union

if TYPE_CHECKING:
    from edgekit_server.connection import Connection

    Taker = Callable[[Connection], None]

HEAD_MOST = 16 << 10
FIELDS_MOST = 64
LENGTH_DIGITS = 15

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME = re.compile(_TOKEN)
_LINE = re.compile(rf"({_TOKEN}) ([!\"$-~]+) HTTP/([0-9])\.([0-9])")
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_UNFIT = re.compile("[^\t -~\xa0-\xff]")
_ORIGIN = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_SINGLE = frozenset(("host", "content-length", "transfer-encoding", "authorization"))
_PHRASES = {int(status): status.phrase for status in HTTPStatus}

Bytes = Union[bytes, bytearray, memoryview]


@dataclass(frozen=True)
class Response:
    """``body`` is sent part by part. A memoryview is one of bytes, and nobody looks at it after ``reply`` is back.

    ``taker``: to whom the connection may be lent, who would answer another such request by himself.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: tuple[Bytes, ...] = ()
    taker: Taker | None = None


def document(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, (text,))


class Refused(Exception):
    """A request that gets an error for an answer: ``{"error": message}``."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers

    def response(self) -> Response:
        return document(self.status, {"error": self.message}, self.headers)


@dataclass(frozen=True)
class Head:
    """A request as far as the empty line. ``path`` and ``query`` are as they were sent, names of headers lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    length: int = 0
    """Bytes of the body; of no meaning where it is ``chunked``."""
    chunked: bool = False

    @property
    def coding(self) -> str:
        """How the body is compressed, "" for not at all."""
        coding = self.headers.get("content-encoding", "").lower()
        return "" if coding == "identity" else coding

    @property
    def keeps(self) -> bool:
        """Whether the client may send another request on this connection."""
        words = {word.strip() for word in self.headers.get("connection", "").lower().split(",")}
        return "close" not in words and (self.minor > 0 or "keep-alive" in words)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Bytes
    peer: str
    """The address of the client, "unix" on a Unix socket."""


def too_large(most: int) -> Refused:
    return Refused(413, f"a body of more than {most} bytes")


def check_characters(data: bytes) -> None:
    """Of a head, or as much of it as there is. Raises: Refused for line ends that others may read otherwise, too."""
    if _CONTROL.search(data):
        raise Refused(400, "malformed request: a control character, or a line that does not end in CR LF")


def parse_head(data: bytes) -> Head:
    """A head, its empty line included. Raises: Refused."""
    check_characters(data)
    first, *lines = data.decode("latin-1")[:-4].split("\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise Refused(400, "malformed request line")
    method, target, major, minor = line.groups()
    if major != "1":
        raise Refused(505, f"HTTP/{major}.{minor} is not spoken here, HTTP/1.1 is")
    headers = _fields(lines)
    length, chunked = _framing(headers, minor)
    path, _, query = _origin_form(target).partition("?")
    return Head(method, path, query, headers, min(int(minor), 1), length, chunked)


def encode(response: Response, head: Head | None, stays: bool) -> tuple[Bytes, ...]:
    """The parts of an answer to ``head``, after which the connection stays or ends.

    A character that cannot stand in a header becomes a blank.
    """
    connection = "close" if not stays else "keep-alive" if head and not head.minor else ""
    first = beginning(response.status, tuple(response.headers.items()), sum(map(len, response.body)), connection)
    return (first,) if head and head.method == "HEAD" else (first, *response.body)


@functools.lru_cache(maxsize=64)
def beginning(status: int, headers: tuple[tuple[str, str], ...], length: int, connection: str) -> bytes:
    """Of an answer whose body has so many bytes. Answers mostly differ in their bodies only."""
    fields = {**dict(headers), "Content-Length": str(length), **({"Connection": connection} if connection else {})}
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
    lines += [_UNFIT.sub(" ", f"{name}: {value}") for name, value in fields.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _fields(lines: list[str]) -> dict[str, str]:
    """Headers that are sent several times are one with commas; those that decide something are sent once."""
    if len(lines) > FIELDS_MOST:
        raise Refused(431, f"more than {FIELDS_MOST} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if not _NAME.fullmatch(name) or len(name) == len(line):
            raise Refused(400, "malformed header")  # a blank before the colon and a folded line are no names
        name, value = name.lower(), value.strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise Refused(400, f"more than one header {name}")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _framing(headers: Mapping[str, str], minor: str) -> tuple[int, bool]:
    """Where the body ends: RFC 9112 section 6.3. A head that could be read in two ways is refused."""
    if not _HOST.fullmatch(headers.get("host", "" if minor == "0" else "/")):
        raise Refused(400, "no header host, or a malformed one")
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None or minor == "0":
            raise Refused(400, "transfer-encoding with a content-length, or in HTTP/1.0")
        if coding.lower() != "chunked":
            raise Refused(501, "the only transfer-encoding here is chunked")
        return 0, True
    if length is None:
        return 0, False
    if not (length.isascii() and length.isdigit()):
        raise Refused(400, "content-length is no number")
    if len(length) > LENGTH_DIGITS:
        raise Refused(413, "content-length is beyond all measure")
    return int(length), False


def _origin_form(target: str) -> str:
    """``/path?query`` of a target that may be a whole URL, as proxies send it."""
    if target.startswith("/"):
        return target
    origin = _ORIGIN.match(target)
    if origin is None:
        raise Refused(400, "malformed request target")
    rest = target[origin.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
