"""Latency: percentiles over time of the calls of each release, or of each device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.page.axis import Axis
from edgekit.page.plot import Series
from edgekit_runtime.histogram import percentile

if TYPE_CHECKING:
    from edgekit.store import Slice

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MOST_LINES = 5
"""One can tell apart by colour and stroke where they cross."""

Buckets = dict[int, int]


@dataclass(frozen=True)
class Line:
    """The calls of one release or device, step by step of an axis."""

    name: str
    cells: tuple[Buckets, ...]

    @property
    def whole(self) -> Buckets:
        return together(self.cells)


def measured(slices: Iterable[Slice]) -> list[Slice]:
    """Whole calls whose times are no emulator's."""
    return [each for each in slices if each.stage == "call" and each.buckets and not each.emulated]


def lines(slices: Iterable[Slice], axis: Axis, key: Callable[[Slice], str]) -> dict[str, Line]:
    """What was called, by a key of its slice, in the keys' first order."""
    found: dict[str, list[Buckets]] = {}
    for each in slices:
        cells = found.setdefault(key(each), [{} for _ in range(axis.number)])
        add(cells[axis.index(each.start_s)], each.buckets)
    return {name: Line(name, tuple(cells)) for name, cells in found.items()}


def bounded(known: Mapping[str, Line], wanted: Sequence[str], rest: str) -> list[Line]:
    """Those wanted, at most MOST_LINES, in that order; all others as one line, ``rest`` with their number in it."""
    shown = [known[name] for name in wanted[:MOST_LINES]]
    others = [line for name, line in known.items() if name not in wanted[:MOST_LINES]]
    if not others:
        return shown
    cells = tuple(together(cells) for cells in zip(*(line.cells for line in others), strict=True))
    return [*shown, Line(rest.format(len(others)), cells)]


def percentiles(shown: Iterable[Line]) -> dict[str, tuple[Series, ...]]:
    """The series in milliseconds, by SHARES."""
    kept = list(shown)
    return {key: tuple(Series(line.name, _over_time(line, share)) for line in kept) for key, share in SHARES.items()}


def _over_time(line: Line, share: float) -> tuple[float | None, ...]:
    return tuple(milliseconds(cell, share) for cell in line.cells)


def milliseconds(buckets: Buckets, share: float) -> float | None:
    """A percentile; None without a call."""
    return percentile(buckets, share) / 1e6 if any(buckets.values()) else None


def slowest_first(known: Mapping[str, Line]) -> list[str]:
    """Names by the 95th percentile of all their calls; who has none comes last."""
    late = {name: milliseconds(line.whole, 0.95) or 0.0 for name, line in known.items()}
    return sorted(known, key=lambda name: (-late[name], name))


def together(tables: Iterable[Buckets]) -> Buckets:
    total: Buckets = {}
    for table in tables:
        add(total, table)
    return total


def add(total: Buckets, more: Mapping[int, int]) -> None:
    """In place: a page adds up millions of buckets."""
    for index, count in more.items():
        total[index] = total.get(index, 0) + count
