"""Steady: from when on a run does not change any more, such as when a device has got as hot as it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INDIFFERENT = 0.01
"""Changes of this share are none: percentiles are known no better."""
LEAST = 10
"""Windows at least make a state; by chance, fewer may be alike."""


@dataclass(frozen=True)
class Steady:
    """The first window of the steady state. It is not ``settled`` where less than half of the run is left for it."""

    start: int
    settled: bool


def steady(medians: Sequence[float]) -> Steady:
    """By the medians of windows of equal length, in order.

    The rule is MSER (White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69,
    1997): cut off as much at the beginning as makes the mean of the rest most certain; a run of which more than half
    had to go is too short.
    """
    number = len(medians)
    start = min(range(max(1, number - LEAST + 1)), key=lambda cut: _doubt(medians[cut:]))
    return Steady(start, start <= number / 2)


def _doubt(rest: Sequence[float]) -> float:
    """The squared standard error of the mean, as a share of it."""
    mean = sum(rest) / len(rest)
    variance = sum((value / mean - 1) ** 2 for value in rest) / len(rest)
    return (variance + INDIFFERENT**2) / len(rest)
