"""Percentiles: of latencies that were counted block by block, each with an interval at 95 % confidence.

Calls that follow each other are alike: the clock is high or low for all of them. So an interval that takes them for
independent is far too narrow. Here the share of calls below a percentile is looked at block by block (Heidelberger and
Lewis, Quantile estimation in dependent sequences, Operations Research 32, 1984), in 20 blocks, of which more would gain
little (Schmeiser, Batch size effects in the analysis of simulation output, Operations Research 30, 1982). The interval
of that share, turned back, is that of the percentile (Woodruff, Confidence intervals for medians and other position
measures, JASA 47, 1952): nothing is assumed of how latencies are distributed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

from edgekit_runtime.histogram import RELATIVE_ERROR, percentile, summed

Buckets = dict[int, int]
"""As a window has them."""

BLOCKS = 20
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_NORMAL = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Percentile:
    """Milliseconds, within 1 %. The interval is open at an end of which so few calls say nothing."""

    ms: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        return {"ms": self.ms, "low": self.low, "high": self.high}


Percentiles = Mapping[str, Percentile | None]
"""By the names of SHARES; None for one that lies beyond the slowest call."""


def percentiles(parts: Sequence[Buckets]) -> Percentiles:
    """Of what was counted in one part of the time after the other, all of them about as long."""
    return {name: percentile_of(parts, share) for name, share in SHARES.items()}


def percentile_of(parts: Sequence[Buckets], share: float) -> Percentile | None:
    """The latency below which ``share`` of the calls lie."""
    total = summed(parts)
    calls = sum(total.values())
    if calls * (1 - share) < 1:
        return None
    found, some = percentile(total, share), _blocks(parts)
    half = _t(len(some) - 1) * _deviation(some, found, share) if len(some) > 1 else 1.0
    low, high = share - half, share + half
    return Percentile(
        _ms(found),
        _ms(percentile(total, low) / (1 + RELATIVE_ERROR)) if low * calls >= 1 else None,
        _ms(percentile(total, high) / (1 - RELATIVE_ERROR)) if math.ceil(high * calls) <= calls else None,
    )


def _blocks(parts: Sequence[Buckets]) -> list[Buckets]:
    """Neighbours put together until there are BLOCKS."""
    number = min(BLOCKS, len(parts))
    ends = [len(parts) * block // number for block in range(number + 1)]
    return [summed(parts[start:end]) for start, end in pairwise(ends)]


def _deviation(parts: Sequence[Buckets], latency: float, share: float) -> float:
    """The standard deviation of the share of calls below a latency; never less than that of independent calls."""
    counts = [sum(part.values()) for part in parts]
    below = [sum(count for bucket, count in part.items() if _reaches(bucket, latency)) for part in parts]
    mean = sum(below) / sum(counts)
    squares = sum((found - mean * count) ** 2 for found, count in zip(below, counts, strict=True))
    variance = squares * len(parts) / (len(parts) - 1) / sum(counts) ** 2
    return math.sqrt(max(variance, share * (1 - share) / sum(counts)))


def _reaches(bucket: int, latency: float) -> bool:
    return percentile({bucket: 1}, 0) <= latency * (1 + 1e-9)


def _t(n: int) -> float:
    """Student's t at 97.5 % with so many degrees of freedom (Abramowitz and Stegun, 26.7.5)."""
    z = _NORMAL
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 6)
