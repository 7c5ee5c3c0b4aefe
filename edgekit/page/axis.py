"""Axis: the points in time that every plot of a page has, few enough to draw however long that was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.store import Slice

DAY_S = 86400
MOST_POINTS = 180
MOST_SLICES, MOST_DEVICE_SLICES = 1_000, 24_000
"""To ask a store for, of all devices together and of each: less than a second's work."""
RESOLUTIONS_S = (300, 3600, DAY_S)
"""What a store has roll-ups of."""
STEPS_S = (300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, DAY_S, 2 * DAY_S, 7 * DAY_S)


@dataclass(frozen=True)
class Axis:
    """``number`` steps of ``step_s`` seconds; the first begins at ``start_s``, in seconds since 1970."""

    start_s: int
    step_s: int
    number: int

    def index(self, moment_s: float) -> int:
        """The step in which a moment lies; the nearest one where it lies in none."""
        return min(max(int((moment_s - self.start_s) // self.step_s), 0), self.number - 1)

    @property
    def times(self) -> tuple[int, ...]:
        """When each step begins."""
        return tuple(self.start_s + i * self.step_s for i in range(self.number))


def axis(slices: Iterable[Slice]) -> Axis:
    """One that all of them lie on, with at most MOST_POINTS steps, none of which is shorter than a slice."""
    spans = [(each.start_s, each.start_s + each.seconds, each.seconds) for each in slices]
    if not spans:
        return Axis(0, STEPS_S[0], 1)
    first, last = min(start for start, _, _ in spans), max(end for _, end, _ in spans)
    least = max(max(seconds for _, _, seconds in spans), (last - first) / (MOST_POINTS - 1))
    step = next((step for step in STEPS_S if step >= least), math.ceil(least / DAY_S) * DAY_S)
    start = int(first // step) * step
    return Axis(start, step, max(1, math.ceil((last - start) / step)))


def resolution(span_s: float, devices: int, most: int) -> int:
    """The finest roll-up, in seconds, that has no more than ``most`` slices of a release in this time."""
    fine = (seconds for seconds in RESOLUTIONS_S if span_s / seconds * max(devices, 1) <= most)
    return next(fine, RESOLUTIONS_S[-1])
