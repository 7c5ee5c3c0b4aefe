"""Rooms: memory for bodies, used again and again, where what follows a body's JSON is aligned."""

from __future__ import annotations

import numpy as np

from edgekit_server.wire import ALIGNED

LARGEST = 1 << 20
"""Larger ones are not kept."""
KEPT = 8 << 20
"""Bytes of those that nobody uses at present."""


class Rooms:
    """By length and by how much of it is JSON. The one that was used last comes first: it may be in a cache still."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, int], list[memoryview]] = {}
        self._bytes = 0

    def take(self, length: int, header_length: int) -> memoryview:
        free = self._free.get((length, header_length % ALIGNED))
        if free:
            self._bytes -= length
            return free.pop()
        room = np.empty(length + ALIGNED, np.uint8)
        start = -(room.ctypes.data + header_length) % ALIGNED
        return room.data[start : start + length]

    def give(self, room: memoryview, header_length: int) -> None:
        """Nobody looks at it any more."""
        length = len(room)
        if self._bytes + length > KEPT:
            self._free.clear()
            self._bytes = 0
        self._free.setdefault((length, header_length % ALIGNED), []).append(room)
        self._bytes += length
