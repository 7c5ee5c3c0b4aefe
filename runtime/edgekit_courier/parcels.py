"""Parcels: windows that go over together, small enough for any device and collector.

Lines of JSON in gzip. The first is the head, {"schema_version": 1, "now_s": …, "serves": […]}: what this device's clock
says, and with what its releases run; then come the windows, a line each.
"""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator

from edgekit_runtime.windows import Window, dump

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA_VERSION = 1
MOST_BYTES = 1 << 18
"""Before they are packed: a quarter of an hour of Wi-Fi at its worst would still carry it."""
MOST_WINDOWS = 500


@dataclass(frozen=True)
class Parcel:
    """``body`` is packed."""

    windows: tuple[Window, ...]
    body: bytes


@dataclass(frozen=True)
class Packer:
    """``told``: with what the releases of this device run, which is in every head."""

    told: list[dict[str, Any]] = field(default_factory=list)

    def parcel(self, windows: tuple[Window, ...]) -> Parcel:
        head = {"schema_version": SCHEMA_VERSION, "now_s": round(time.time(), 3), "serves": self.told}
        plain = f"{json.dumps(head, separators=(',', ':'))}\n".encode() + b"".join(map(_line, windows))
        return Parcel(windows, gzip.compress(plain, 6))

    def pack(self, windows: Iterable[Window]) -> Iterator[Parcel]:
        """In their order, no parcel larger than it may be unless a single window is."""
        waiting: list[Window] = []
        size = 0
        for window in windows:
            length = len(_line(window))
            if waiting and (size + length > MOST_BYTES or len(waiting) == MOST_WINDOWS):
                yield self.parcel(tuple(waiting))
                waiting, size = [], 0
            waiting.append(window)
            size += length
        if waiting:
            yield self.parcel(tuple(waiting))

    def halves(self, parcel: Parcel) -> tuple[Parcel, Parcel]:
        """For who refuses the whole."""
        middle = len(parcel.windows) // 2
        return self.parcel(parcel.windows[:middle]), self.parcel(parcel.windows[middle:])


def _line(window: Window) -> bytes:
    return f"{dump(window)}\n".encode()
