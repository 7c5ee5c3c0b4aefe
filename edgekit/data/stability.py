"""Stability: whether there are enough calibration samples, from the ranges (min, max) that two halves of them give.

What matters is by how much the next sample would go beyond the ranges. With M(n) the largest of n values, that is
E M(n+1) - E M(n); and for two halves of n samples, since the larger of both maxima is M(2n),

    E |M(n) - M'(n)| = 2 (E M(2n) - E M(n)) = 2 × the sum of what the samples n+1 to 2n add.

It shrinks with the number of samples: as c / n on ResNet-20, PP-OCR's text direction and the digits (with powers of
1.09, 1.22 and 1.10 from 1 to 240 samples). The sum is c ln 2 then, and the halves' difference tells c. (The
difference itself hardly shrinks, so it is no measure.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Ranges = Mapping[str, tuple[float, float]]

ALLOWED = 1 / 255
"""By how much of a range's span the next sample may go beyond it, in the mean over all tensors: one step of int8."""


@dataclass(frozen=True)
class Stability:
    """Two halves of so many ``samples`` give ranges that differ by ``difference``, a share of their spans in the mean
    over all tensors, and most in ``worst``; ``needed`` is how many samples there should be in all.
    """

    samples: int
    difference: float
    worst: str
    needed: int

    @property
    def more(self) -> int:
        return max(0, self.needed - 2 * self.samples)

    @property
    def line(self) -> str | None:
        """What to tell a person; None when there are enough samples."""
        if not self.more:
            return None
        apart = f"calibration data: ranges differ by {self.difference:.0%} between two halves of {self.samples} samples"
        name = self.worst.partition(";")[0]  # TFLite joins the names of what it has fused
        return f"{apart}, most in {name!r}: about {self.more} more samples needed"


class Halves:
    """The ranges of tensors in samples that go by, apart for every other one."""

    def __init__(self) -> None:
        self._count = 0
        self._ranges: tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]] = ({}, {})

    def watch(self, samples: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[Mapping[str, NDArray[Any]]]:
        """The same samples, seen. Values that are no numbers are left out, with their tensor in that sample."""
        for sample in samples:
            known = self._ranges[self._count % 2]
            for name, values in sample.items():
                low, high = (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)
                if math.isfinite(low) and math.isfinite(high):
                    before = known.get(name, (low, high))
                    known[name] = (min(before[0], low), max(before[1], high))
            self._count += 1
            yield sample

    @property
    def stability(self) -> Stability:
        return of_halves(*self._ranges, self._count // 2)


def of_halves(one: Ranges, other: Ranges, samples: int) -> Stability:
    """From the least and the largest value of each tensor by two like halves of so many samples each."""
    apart = {name: difference(one[name], other[name]) for name in one if name in other}
    mean = sum(apart.values()) / max(1, len(apart))
    needed = math.ceil(mean / (2 * math.log(2)) / ALLOWED)
    return Stability(samples, mean, max(apart, key=lambda name: apart[name], default=""), needed)


def difference(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far both ends of two ranges lie apart, together, as a share of the span of the two; 0 without a span."""
    span = max(one[1], other[1]) - min(one[0], other[0])
    return (abs(one[0] - other[0]) + abs(one[1] - other[1])) / span if span > 0 else 0.0
