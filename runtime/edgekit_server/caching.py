"""Caching: answers kept by what was asked, within so many bytes; the one that was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Dict

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, Any]

Arrays = Dict[str, "Array"]

ENTRY_BYTES = 1024
"""What an answer costs besides its numbers."""


def digest(inputs: Mapping[str, Array]) -> bytes:
    """The same for the same names, dtypes, shapes and numbers, however they lie in memory; else another.

    BLAKE2b (RFC 7693), 16 bytes.
    """
    found = blake2b(digest_size=16)
    for name in sorted(inputs):
        array = np.ascontiguousarray(inputs[name])
        found.update(repr((name, array.dtype.str, inputs[name].shape)).encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.digest()


class Cache:
    """Answers of one model. Only for one that answers the same to the same, without chance or memory of its own."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._bytes = most_bytes, 0
        self._hits = self._misses = 0
        self._told = (0, 0)
        self._answers: OrderedDict[bytes, Arrays] = OrderedDict()

    def get(self, key: bytes) -> Arrays | None:
        """An answer that was kept; its arrays cannot be written to."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
            self._hits += 1
        else:
            self._misses += 1
        return found

    def counted(self) -> dict[str, int]:
        """Hits and misses since the last time, for a window. One thread may ask, another than that of ``get``."""
        now, before = (self._hits, self._misses), self._told
        self._told = now
        found = {"cache_hits": now[0] - before[0], "cache_misses": now[1] - before[1]}
        return {name: number for name, number in found.items() if number}

    def put(self, key: bytes, outputs: Mapping[str, Array]) -> None:
        """Keep a copy, unless it is larger than all that may be kept."""
        if key in self._answers or _size(outputs) > self._most:
            return
        kept = {name: array.copy() for name, array in outputs.items()}  # may be a view of many rows
        for array in kept.values():
            array.setflags(write=False)
        self._answers[key] = kept
        self._bytes += _size(kept)
        while self._bytes > self._most:
            self._bytes -= _size(self._answers.popitem(last=False)[1])


def _size(outputs: Mapping[str, Array]) -> int:
    return ENTRY_BYTES + sum(array.nbytes for array in outputs.values())
