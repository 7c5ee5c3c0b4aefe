"""Plot: series over time as values, and as the JSON that plots.js draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DIGITS = 4
MOST_EXACT = 1 << 53
LINES, BAND, STACK, BARS = "lines", "band", "stack", "bars"
"""Lines; least, mean and most of one thing; areas and bars that are put on each other."""


@dataclass(frozen=True)
class Series:
    """A value for each point in time, None where nothing was measured."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Plot:
    """``told`` says in words what is to be seen. ``variants``: the series, by what one can choose; "" for no choice.

    ``unit``: "ms", "%", "°C", "PSI" or "" for a number.
    """

    key: str
    title: str
    told: str
    unit: str
    kind: str
    times: tuple[int, ...]
    variants: dict[str, tuple[Series, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(series.name for series in next(iter(self.variants.values())))

    def document(self) -> dict[str, Any]:
        """What plots.js draws, and its table; a value has DIGITS digits, which is more than one can see."""
        told = {key: [[_short(v) for v in series.values] for series in each] for key, each in self.variants.items()}
        facts = {"title": self.title, "unit": self.unit, "kind": self.kind, "names": self.names}
        return {**facts, "start": self.times[0], "step": _step(self.times), "variants": told}


def _short(value: float | None) -> float | int | None:
    short = math.nan if value is None else float(f"{value:.{DIGITS}g}")
    if not math.isfinite(short):
        return None
    return int(short) if short.is_integer() and abs(short) < MOST_EXACT else short


def _step(times: tuple[int, ...]) -> int:
    return times[1] - times[0] if len(times) > 1 else 0
