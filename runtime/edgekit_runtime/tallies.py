"""Tallies: times of calls and of their stages, put into histograms many at a time.

A call costs one entry in a queue; numpy counts a batch of them in a third of what one after the other takes.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque
from typing import TYPE_CHECKING, Any, Dict, Tuple

from edgekit_runtime.histogram import GAMMA
from edgekit_runtime.windows import MOST_BUCKET, STAGES

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Times = Tuple[int, int, int, int, int]
"""Nanoseconds of the whole call, then of each of STAGES; UNKNOWN where it was not measured."""
Buckets = Dict[int, int]

UNKNOWN = -1
MOST_WAITING = 256
"""Calls that wait to be counted. One in so many takes longer by that: a tenth of a millisecond here."""
_ROW = MOST_BUCKET + 2
"""A histogram's cells; the last is for what is UNKNOWN."""


class Tallies:
    """Histograms of whole calls and of STAGES. Any thread may add to them."""

    def __init__(self) -> None:
        self._waiting: deque[Times] = deque()
        self._lock = threading.Lock()
        self._cells: Array | None = None

    def add(self, times: Times) -> None:
        self._waiting.append(times)
        if len(self._waiting) >= MOST_WAITING:
            with self._lock:
                self._count()

    def take(self) -> tuple[Buckets, dict[str, Buckets]]:
        """What was added since the last time: of whole calls, and of each stage that was measured."""
        with self._lock:
            self._count()
            cells, self._cells = self._cells, None
        if cells is None:
            return {}, {}
        whole, *stages = map(_buckets, cells.reshape(-1, _ROW))
        return whole, {name: buckets for name, buckets in zip(STAGES, stages) if buckets}

    def _count(self) -> None:
        """While others add to what is to be counted."""
        taken = array("q")
        while self._waiting:  # nobody else takes from it
            taken.extend(self._waiting.popleft())
        if taken:
            counted = _counted(taken)
            self._cells = counted if self._cells is None else self._cells + counted


def _counted(times: array[int]) -> Array:
    """As ``histogram.index`` does, in one row of cells after the other."""
    import numpy as np

    columns = len(STAGES) + 1
    table = np.frombuffer(times, np.int64).reshape(-1, columns)
    places = np.ceil(np.log(np.maximum(table, 1)) / math.log(GAMMA)).astype(np.int64)
    places[table < 0] = _ROW - 1
    return np.bincount((places + np.arange(columns) * _ROW).ravel(), minlength=columns * _ROW)


def _buckets(row: Array) -> Buckets:
    return {int(place): int(row[place]) for place in row[:-1].nonzero()[0]}


__all__ = ["UNKNOWN", "Tallies", "Times"]
