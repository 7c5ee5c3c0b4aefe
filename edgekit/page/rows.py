"""Rows: releases and devices of an app, each with its figures in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.page import climate
from edgekit.page.axis import Axis
from edgekit.page.latency import Line, lines, measured, milliseconds

if TYPE_CHECKING:
    from edgekit.store import Slice

Key = Callable[["Slice"], str]


@dataclass(frozen=True)
class Row:
    """Milliseconds, shares from 0 to 1, degrees Celsius, seconds since 1970; None where nobody knows.

    ``trend``: the 95th percentile over time.
    """

    name: str
    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    failed: float
    devices: int
    throttled: float | None
    hottest: float | None
    first_s: float
    last_s: float
    trend: tuple[float | None, ...]


def rows(slices: Iterable[Slice], axis: Axis, key: Key) -> list[Row]:
    """One for each value of a key."""
    groups: dict[str, list[Slice]] = {}
    for each in slices:
        if each.stage == "call":
            groups.setdefault(key(each), []).append(each)
    return [_row(name, group, axis) for name, group in groups.items()]


def _row(name: str, group: list[Slice], axis: Axis) -> Row:
    line = lines(measured(group), axis, lambda each: name).get(name) or Line(name, ({},) * axis.number)
    whole = line.whole
    answered = sum(sum(each.buckets.values()) for each in group)
    failed = sum(sum(each.errors.values()) for each in group)
    p50, p95, p99 = (milliseconds(whole, share) for share in (0.5, 0.95, 0.99))
    return Row(
        name, answered, p50, p95, p99, failed / (answered + failed) if failed else 0.0,
        len({each.device for each in group}),
        climate.extremes(group, "throttled")[0],
        climate.extremes(group, climate.TEMPERATURE)[1],
        min(each.start_s for each in group),
        max(each.start_s + each.seconds for each in group),
        tuple(milliseconds(cell, 0.95) for cell in line.cells),
    )  # fmt: skip


def newest_first(found: Iterable[Row]) -> list[Row]:
    """Who came last comes first: a release's first call says how old it is."""
    return sorted(found, key=lambda row: (-row.first_s, row.name))


def slowest_first(found: Iterable[Row]) -> list[Row]:
    return sorted(found, key=lambda row: (-(row.p95 or 0.0), row.name))
