"""Latency: what the times of some calls come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call; the median lies between ``p50_low`` and ``p50_high`` at 95 % confidence."""

    p50: float
    p95: float
    p50_low: float
    p50_high: float


UNTIMED = Latency(0.0, 0.0, 0.0, 0.0)


def latency_of(times_ns: Sequence[int]) -> Latency:
    """Of at least one call."""
    times: NDArray[Any] = np.sort(times_ns) / 1e6
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(*(round(float(value), 4) for value in (p50, p95, *_median_interval(times))))


def _median_interval(times: NDArray[Any]) -> tuple[float, float]:
    """The order statistics between which the median lies at 95 % confidence, whatever the distribution.

    W. J. Conover, Practical Nonparametric Statistics, 3.2, in the normal approximation of the binomial.
    """
    half = 1.96 * math.sqrt(len(times)) / 2
    first, last = math.floor(len(times) / 2 - half), math.ceil(len(times) / 2 + half) - 1
    return float(times[max(first, 0)]), float(times[min(max(last, 0), len(times) - 1)])
