"""Arena: memory that the front and a worker share, in slots of one size: a body goes in, its answer comes out there.

It is a file without a name (memfd_create(2)). A page of it exists once it was touched, so that slots may be large.
"""

from __future__ import annotations

import heapq
import math
import mmap
import os
import sys
from typing import TYPE_CHECKING

from edgekit_server.page import IDLE, SLOTS, Page

if TYPE_CHECKING:
    from edgekit_runtime.interface import Interface
    from edgekit_runtime.tensors import TensorSpec

LEAST, MOST = 1 << 16, 1 << 26
"""Bytes of a slot."""
ADDRESSES = 1 << 32 if sys.maxsize > 1 << 32 else 1 << 29
"""Bytes that the slots may span; a 32-bit process has not many."""
ROWS, FREE, PER_ELEMENT = 32, 256, 25
"""What a free first axis and another free one are taken for; a float64 in JSON has at most 25 characters."""


def capacity(interface: Interface) -> int:
    """Bytes that a request and its answer may have, each: as JSON, in batches, in whole pages."""
    sides = (interface.accepts.values(), interface.outputs)
    need = max(sum(map(_written, side)) for side in sides)
    return -(-min(max(need, LEAST), MOST) // mmap.PAGESIZE) * mmap.PAGESIZE


def _written(spec: TensorSpec) -> int:
    free = (ROWS, *[FREE] * len(spec.shape))
    return 1024 + PER_ELEMENT * math.prod(size or guess for size, guess in zip(spec.shape, free))


def make(size: int) -> int:
    """A file for an arena of slots of ``size`` bytes, and a page more."""
    file = os.memfd_create("edgekit-arena", os.MFD_CLOEXEC)
    os.ftruncate(file, min(SLOTS, ADDRESSES // size) * size + mmap.PAGESIZE)
    return file


class Arena:
    """The slots of a file that ``make`` made, and its ``page``. It takes the file over."""

    def __init__(self, file: int, size: int) -> None:
        whole = os.fstat(file).st_size
        self.size, self.slots = size, (whole - mmap.PAGESIZE) // size
        self._map = mmap.mmap(file, whole)
        os.close(file)
        self._view = memoryview(self._map)
        self.page = Page(self._view[self.slots * size :])

    def view(self, slot: int) -> memoryview:
        """Its bytes, for as long as the view lives."""
        return self._view[slot * self.size : (slot + 1) * self.size]

    def clear(self, slot: int) -> None:
        """Give its memory back to the system."""
        self._map.madvise(mmap.MADV_REMOVE, slot * self.size, self.size)


class Slots:
    """Which slots of an arena are taken: the lowest free one is next, so that few have memory.

    ``most``: bytes that all bodies in it may have together, when there are several.
    """

    def __init__(self, arena: Arena, most: int = MOST) -> None:
        self._arena, self._most = arena, most
        self._free = list(range(arena.slots))
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._used: set[int] = set()
        self._touched: set[int] = set()

    def take(self, size: int) -> int | None:
        """A slot for a body of so many bytes; None when there is no room at present."""
        if not self._free or (self._sizes and self._bytes + size > self._most):
            return None
        slot = heapq.heappop(self._free)
        self._sizes[slot] = size
        self._bytes += size
        return slot

    def free(self, slot: int) -> None:
        self._bytes -= self._sizes.pop(slot)
        self._arena.page.marks[slot] = IDLE
        self._used.add(slot)
        heapq.heappush(self._free, slot)

    def trim(self) -> None:
        """Give back the memory of slots that nobody has used since the last time."""
        for slot in self._touched - self._used - self._sizes.keys():
            self._arena.clear(slot)
        self._touched = (self._touched & self._sizes.keys()) | self._used
        self._used = set()
