"""Faults: errors by code, and what was clipped or differed from the shadow, over time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.page.axis import Axis
from edgekit.page.plot import Series

if TYPE_CHECKING:
    from edgekit.store import Slice

MOST_CODES = 6
OTHERS = "other codes"
SHARES = (
    ("clipped inputs", "inputs_clipped", "inputs_checked"),
    ("clipped outputs", "outputs_clipped", "outputs_checked"),
    ("cache hits", "cache_hits", "cache_lookups"),
    ("shadow agreed", "shadow_agreed", "shadow_runs"),
)


def errors(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """How many calls failed with each code, the most frequent first; beyond MOST_CODES, all others together."""
    found: dict[str, list[int]] = {}
    for each in slices:
        for code, count in each.errors.items() if each.stage == "call" else ():
            found.setdefault(code, [0] * axis.number)[axis.index(each.start_s)] += count
    ranked = sorted(found, key=lambda code: (-sum(found[code]), code))
    shown = [Series(code, tuple(found[code])) for code in ranked[:MOST_CODES]]
    if others := [found[code] for code in ranked[MOST_CODES:]]:
        shown.append(Series(OTHERS, tuple(map(sum, zip(*others, strict=True)))))
    return tuple(shown)


def shares(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """What was counted of what was looked at, in percent, where anything was."""
    totals: list[dict[str, int]] = [{} for _ in range(axis.number)]
    for each in slices:
        cell = totals[axis.index(each.start_s)]
        for name, count in each.counters.items() if each.stage == "call" else ():
            cell[name] = cell.get(name, 0) + count
    for cell in totals:
        cell["cache_lookups"] = cell.get("cache_hits", 0) + cell.get("cache_misses", 0)
    known = ((name, part, whole) for name, part, whole in SHARES if any(cell.get(whole) for cell in totals))
    return tuple(Series(name, tuple(_percent(cell, part, whole) for cell in totals)) for name, part, whole in known)


def _percent(cell: dict[str, int], part: str, whole: str) -> float | None:
    return 100 * cell.get(part, 0) / cell[whole] if cell.get(whole) else None
