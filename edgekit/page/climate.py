"""Climate: how warm devices were, and which share of the time they were held back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edgekit.page.axis import Axis
from edgekit.page.plot import Series

if TYPE_CHECKING:
    from edgekit.store import Slice

TEMPERATURE = "temperature_c"
LIMITS = (
    ("throttled", "throttled"),
    ("under-voltage", "under_voltage"),
    ("frequency capped", "frequency_capped"),
    ("soft temperature limit", "soft_temperature_limit"),
)


def temperature(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """The coolest, the mean and the hottest over all devices, in °C; nothing where nobody knows."""
    cells = _cells(slices, axis, TEMPERATURE)
    if not any(cells):
        return ()
    return (
        Series("coolest", tuple(min((c[0] for c in cell), default=None) for cell in cells)),
        Series("mean", tuple(_mean([c[1] for c in cell]) for cell in cells)),
        Series("hottest", tuple(max((c[2] for c in cell), default=None) for cell in cells)),
    )


def limits(slices: Iterable[Slice], axis: Axis) -> tuple[Series, ...]:
    """The mean share of the windows, in percent, in which devices were held back; where any was, and throttled."""
    kept = list(slices)
    found = []
    for name, key in LIMITS:
        cells = _cells(kept, axis, key)
        if any(c[2] for cell in cells for c in cell) or (key == "throttled" and any(cells)):
            means = (_mean([c[1] for c in cell]) for cell in cells)
            found.append(Series(name, tuple(None if mean is None else 100 * mean for mean in means)))
    return tuple(found)


def extremes(slices: Iterable[Slice], key: str) -> tuple[float | None, float | None]:
    """The mean and the most of a condition."""
    known = [each.conditions[key] for each in slices if each.stage == "call" and key in each.conditions]
    return _mean([mean for _, mean, _ in known]), max((most for _, _, most in known), default=None)


def _cells(slices: Iterable[Slice], axis: Axis, key: str) -> list[list[tuple[float, float, float]]]:
    cells: list[list[tuple[float, float, float]]] = [[] for _ in range(axis.number)]
    for each in slices:
        if each.stage == "call" and key in each.conditions:
            cells[axis.index(each.start_s)].append(each.conditions[key])
    return cells


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
