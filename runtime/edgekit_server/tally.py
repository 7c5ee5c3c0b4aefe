"""Tally: counts as whole numbers at fixed places, in memory that two processes may share: one writes, the other reads.

A worker that dies leaves its tally behind, and what it was about to answer is in it before anybody gets the answer.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections import Counter
from typing import Tuple

from edgekit_server.counts import BOUNDS, KINDS, STAGES, Counts

Stages = Tuple[int, int, int, int]
"""Nanoseconds in the queue, until the tensors lay ready, in the model, and until the answer was written."""

STATUSES = (200, 400, 401, 403, 404, 405, 408, 413, 415, 417, 421, 429, 431, 499, 500, 501, 502, 503, 504, 505)
EXACT, SIZES = 32, 48
"""Runs of more rows than this are counted by powers of two."""
_STEPS = len(STAGES) - 1
_SAMPLES = 2 * len(KINDS)
_LAST = _SAMPLES + 1
_RUNS = _LAST + 1
_STATUSES = _RUNS + 2 * _STEPS * SIZES
_BUCKETS = _STATUSES + len(STATUSES)
_SPENT = _BUCKETS + len(BOUNDS) + 1
CELLS = _SPENT + 1
"""How many int64 it takes."""
_FAIL, _QUEUE, _HIT = (2 * KINDS.index(kind) for kind in ("fail", "queue", "cache_hit"))
_PLACES = {status: _STATUSES + place for place, status in enumerate(STATUSES)}
_BOUNDS_NS = [int(bound * 1e9) for bound in BOUNDS]


class Tally:
    """``cells``: CELLS of int64, by itself where none are given."""

    def __init__(self, cells: memoryview | None = None) -> None:
        self._cells = memoryview(array("q", bytes(8 * CELLS))) if cells is None else cells

    def answered(self, whole_ns: int, rows: int, stages: Stages) -> None:
        """A request for so many rows, by what it took."""
        cells, at = self._cells, _QUEUE
        self._succeeded(whole_ns, rows)
        for spent in stages:
            cells[at] += 1
            cells[at + 1] += spent
            at += 2

    def kept(self, whole_ns: int, rows: int, output_ns: int) -> None:
        """A request whose answer was in the cache."""
        self._succeeded(whole_ns, rows)
        self._cells[_HIT] += 1
        self._cells[_HIT + 1] += output_ns

    def failed(self, whole_ns: int) -> None:
        self._cells[_FAIL] += 1
        self._cells[_FAIL + 1] += whole_ns

    def ran(self, rows: int, stages: Stages) -> None:
        """The engine, once, for as many rows as there were together."""
        cells, at = self._cells, _RUNS + 2 * _STEPS * _place_of(rows)
        for spent in stages[1:]:
            cells[at] += 1
            cells[at + 1] += spent
            at += 2

    def took(self, status: int, spent_ns: int) -> None:
        """A request, with what became of it."""
        cells = self._cells
        cells[_PLACES.get(status, _PLACES[500])] += 1
        cells[_BUCKETS + bisect_left(_BOUNDS_NS, spent_ns)] += 1
        cells[_SPENT] += spent_ns

    def add(self, other: Tally) -> None:
        """What another one has counted."""
        last = max(self._cells[_LAST], other._cells[_LAST])
        for place, count in enumerate(other._cells):
            self._cells[place] += count
        self._cells[_LAST] = last

    def counts(self) -> Counts:
        cells = self._cells.tolist()
        runs = {_rows_of(place): _kinds(STAGES[1:], cells, _RUNS + 2 * _STEPS * place) for place in range(SIZES)}
        whole = _kinds(KINDS, cells, 0)
        return Counts(
            whole.times,
            whole.ns,
            cells[_SAMPLES],
            cells[_LAST],
            {rows: run for rows, run in runs.items() if any(run.times.values())},
            {status: cells[place] for status, place in _PLACES.items() if cells[place]},
            tuple(cells[_BUCKETS:_SPENT]),
            cells[_SPENT] / 1e9,
        )

    def _succeeded(self, whole_ns: int, rows: int) -> None:
        cells = self._cells
        cells[0] += 1
        cells[1] += whole_ns
        cells[_SAMPLES] += rows
        cells[_LAST] = int(time.time() * 1e3)


def _kinds(kinds: tuple[str, ...], cells: list[int], start: int) -> Counts:
    at = {kind: start + 2 * place for place, kind in enumerate(kinds)}
    times, ns = ({kind: cells[place + which] for kind, place in at.items()} for which in (0, 1))
    return Counts(Counter(times), Counter(ns))


def _place_of(rows: int) -> int:
    return rows - 1 if rows <= EXACT else min(EXACT + rows.bit_length() - EXACT.bit_length() - 1, SIZES - 1)


def _rows_of(place: int) -> int:
    return place + 1 if place < EXACT else EXACT << (place - EXACT + 1)
