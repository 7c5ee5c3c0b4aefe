"""Histogram: latencies in buckets that can be added up, with percentiles within 1 % of the true ones.

DDSketch (Masson, Rim, Lee: VLDB 2019): the index i counts what took between γ^(i-1) and γ^i nanoseconds, γ = 1.01/0.99.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgekit_runtime.windows import Window

Key = TypeVar("Key", int, str)

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = math.log(GAMMA)


def index(nanoseconds: int) -> int:
    """The bucket of a latency; one of no time at all is taken for a nanosecond."""
    return math.ceil(math.log(nanoseconds or 1) / _LOG_GAMMA)


def merge(windows: Iterable[Window]) -> dict[int, int]:
    """The buckets of all of them together."""
    return summed(window.buckets for window in windows)


def summed(tables: Iterable[dict[Key, int]]) -> dict[Key, int]:
    """What several tables of counts come to, by key."""
    total: dict[Key, int] = {}
    for table in tables:
        for key, number in table.items():
            total[key] = total.get(key, 0) + number
    return total


def percentile(buckets: dict[int, int], share: float) -> float:
    """The latency in nanoseconds below which ``share`` (0..1) of the calls lie; NaN when there are none."""
    rank = share * (sum(buckets.values()) - 1)
    below = 0
    for bucket in sorted(buckets):
        below += buckets[bucket]
        if below > rank:
            return 2 * GAMMA**bucket / (GAMMA + 1)
    return math.nan


__all__ = ["GAMMA", "RELATIVE_ERROR", "index", "merge", "percentile", "summed"]
