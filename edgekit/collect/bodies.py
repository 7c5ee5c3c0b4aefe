"""Bodies: what a device delivers, lines of JSON in gzip (RFC 1952), taken apart within bounds.

The first line is a head, {"schema_version": 1, "now_s": …, "serves": […]}; each of the others is a window.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from edgekit.reports import plausible
from edgekit_runtime import fields
from edgekit_runtime.windows import Window, parse

SCHEMA_VERSION = 1
MOST_PACKED, MOST_PLAIN, MOST_LINES = 1 << 20, 4 << 20, 10_000
"""A courier stays far below each of them."""
_GZIP = 16 + zlib.MAX_WBITS


class Unreadable(ValueError):
    """Nothing that a courier packs."""


class TooLarge(ValueError):
    """More than anybody may deliver at once."""


@dataclass(frozen=True)
class Body:
    """The windows of a delivery, how many lines were none, and what the device said first."""

    windows: tuple[Window, ...]
    skipped: int
    head: dict[str, Any]


def unpack(data: bytes) -> Body:
    """Raises: Unreadable, TooLarge; no more than MOST_PLAIN bytes are ever made of it."""
    head, *lines = _plain(data).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) > MOST_LINES:
        raise TooLarge(f"{len(lines)} lines where {MOST_LINES} may be")
    windows = tuple(window for window in map(_window, lines) if window)
    return Body(windows, len(lines) - len(windows), _head(head))


def _head(line: bytes) -> dict[str, Any]:
    """Raises: Unreadable for what is no head of ours."""
    try:
        document = fields.load(line)
        fields.count(document["schema_version"], SCHEMA_VERSION, SCHEMA_VERSION)
    except (KeyError, ValueError) as error:
        raise Unreadable("the first line is no head of a delivery") from error
    return document


def _plain(data: bytes) -> bytes:
    if len(data) > MOST_PACKED:
        raise TooLarge(f"more than {MOST_PACKED} bytes")
    unpacking = zlib.decompressobj(_GZIP)
    try:
        plain = unpacking.decompress(data, MOST_PLAIN + 1)
    except zlib.error as error:
        raise Unreadable(f"no gzip: {error}") from error
    if len(plain) > MOST_PLAIN:
        raise TooLarge(f"more than {MOST_PLAIN} bytes in it")
    if not unpacking.eof or unpacking.unused_data:
        raise Unreadable("no gzip that ends where it should")
    return plain


def _window(line: bytes) -> Window | None:
    """None for what no runtime wrote."""
    try:
        window = parse(line.decode())
    except ValueError:
        return None
    return window if plausible(window) else None
