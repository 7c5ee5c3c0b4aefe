"""Calibration: the range of each activation, from a histogram of it over the calibration samples.

Histograms are gathered in one pass and a bounded memory, one sample at a time; every calibrator reads the same ones.
Percentile and entropy follow S. Migacz, "8-bit Inference with TensorRT" (GTC 2017), entropy with both ends moved in for
tensors of both signs; the squared error is that of R. Krishnamoorthi, arXiv:1806.08342, searched over clipping ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.precision import Calibrator

Array = NDArray[Any]
Range = tuple[float, float]

HALF = 2048
"""Bins on either side of zero."""
LEVELS = 256
KEPT = 0.9999
"""The share of values that the percentile keeps."""
SHRINKINGS = np.geomspace(1.0, 0.02, 57)
"""Shares of the largest value that ranges are cut at, on trial."""
LEAST = 2.0**-60
ENOUGH = 1 << 17
"""About so many values of a tensor are counted of each sample; the least and the greatest are of all."""


@dataclass
class Histogram:
    """Counts of a tensor's values over [-reach, reach], which doubles as need be."""

    reach: float = LEAST
    low: float = np.inf
    high: float = -np.inf
    counts: Array = field(default_factory=lambda: np.zeros(2 * HALF))
    sums: dict[int, Array] = field(default_factory=dict)
    samples: int = 0

    def add(self, values: Array) -> None:
        """Values that are no numbers are left out."""
        flat = values.ravel()
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            flat = flat[np.isfinite(flat)]
            low, high = float(flat.min(initial=np.inf)), float(flat.max(initial=-np.inf))
        if low > high:
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach_for(max(-self.low, self.high))
        self._add_means(values)
        self._count(flat[:: _stride(flat.size)].astype(np.float32, copy=False))

    def _count(self, some: Array) -> None:
        places = np.floor(some * np.float32(HALF / self.reach)).astype(np.intp) + HALF
        self.counts += np.bincount(places, minlength=2 * HALF)

    def _add_means(self, values: Array) -> None:
        self.samples += 1
        if values.ndim < 2:
            return
        second, last = values.reshape(*values.shape[:2], -1), values.reshape(-1, values.shape[-1])
        for axis, total in ((1, np.add.reduce(second, axis=(0, 2))), (-1, np.add.reduce(last, axis=0))):
            mean = total * (total.size / values.size)
            before = self.sums.get(axis, np.zeros(mean.shape))
            self.sums[axis] = before + mean if before.shape == mean.shape else np.full(1, np.nan)

    def mean(self, axis: int) -> Array | None:
        """The mean for each index along axis 1 or -1, over samples; None where its size changed or nothing was seen."""
        found = self.sums.get(axis)
        return None if found is None or not np.isfinite(found).all() else found / self.samples

    def _reach_for(self, value: float) -> None:
        """Bins hold their lower end: the reach is beyond every value."""
        if value >= self.reach and not self.counts.any():
            self.reach = max(LEAST, 2.0 ** math.frexp(value)[1])
        while value >= self.reach:
            self.reach *= 2
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(axis=1), HALF // 2)

    @property
    def centres(self) -> Array:
        return (np.arange(2 * HALF) - HALF + 0.5) * (self.reach / HALF)

    @property
    def full(self) -> Range:
        """From the least to the greatest, with zero in it; (0, 0) where nothing was seen."""
        return (min(self.low, 0.0), max(self.high, 0.0))


def _stride(size: int) -> int:
    """That leaves about ``ENOUGH`` of so many values, from all along each axis: it has no factor in common with any."""
    stride = max(1, size // ENOUGH)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


Statistics = Mapping[str, Histogram]


def observe(samples: Iterable[Mapping[str, Array]]) -> dict[str, Histogram]:
    """The histograms of all tensors, by name, over samples of them."""
    seen: dict[str, Histogram] = {}
    for sample in samples:
        for name, values in sample.items():
            seen.setdefault(name, Histogram()).add(values)
    return seen


def ranges(statistics: Statistics, calibrator: Calibrator) -> dict[str, Range]:
    """What each tensor is clipped to."""
    take = METHODS[calibrator]
    return {name: _within(take(seen), seen.full) for name, seen in statistics.items()}


def _within(found: Range, full: Range) -> Range:
    """Zero is always in a range: padding and ReLU need it to be exact."""
    return max(min(found[0], 0.0), full[0]), min(max(found[1], 0.0), full[1])


def minmax(seen: Histogram) -> Range:
    return seen.full


def percentile(seen: Histogram) -> Range:
    """The range that leaves out as many values at either end as make ``1 - KEPT`` together."""
    if not seen.counts.any():
        return seen.full
    share = np.cumsum(seen.counts) / seen.counts.sum()
    edge, step = (1 - KEPT) / 2, seen.reach / HALF
    first, last = np.searchsorted(share, edge, "right"), np.searchsorted(share, 1 - edge, "left")
    return (float(first) - HALF) * step, (float(last) + 1 - HALF) * step


def mse(seen: Histogram) -> Range:
    """The range of the least squared error, rounding and clipping together."""
    return _best(seen, _squared_error)


def entropy(seen: Histogram) -> Range:
    """The range that changes the distribution least, by the Kullback-Leibler divergence.

    Exact zeros, of which a ReLU makes most, count as the bins beside them do: any range tells them rightly.
    """
    counts = seen.counts.copy()
    counts[HALF - 1 : HALF + 1] = counts[[HALF - 2, HALF + 1]]
    return _best(replace(seen, counts=counts), _divergence)


def _best(seen: Histogram, loss: Callable[[Array, Array, Range], float]) -> Range:
    """The range cut at the share of the largest value that costs least; the wider one of equals."""
    used = np.flatnonzero(seen.counts)
    low, high = seen.full
    if not used.size or high - low < LEAST:
        return seen.full
    part = slice(used[0], used[-1] + 1)
    centres, counts = seen.centres[part], seen.counts[part]
    top = max(-low, high)
    tried = [(max(low, -top * share), min(high, top * share)) for share in SHRINKINGS]
    return min(tried, key=lambda each: loss(centres, counts, each))


def sqnr_db(seen: Histogram, to: Range, levels: int = LEVELS) -> float:
    """The signal-to-quantization-noise ratio of a tensor in a range; infinite for one that is zero throughout."""
    signal = float(seen.counts @ seen.centres**2)
    if not signal or seen.full == (0.0, 0.0) or to[1] - to[0] < LEAST:
        return math.inf
    return 10 * math.log10(signal / max(_squared_error(seen.centres, seen.counts, to, levels), signal * 1e-20))


def _squared_error(centres: Array, counts: Array, to: Range, levels: int = LEVELS) -> float:
    step = (to[1] - to[0]) / (levels - 1)
    clipped = np.clip(centres, *to)
    rounded = to[0] + np.rint((clipped - to[0]) / step) * step
    # Within a bin values are spread evenly: they add its width²/12; one wider than a step is told by that alone.
    width = centres[1] - centres[0] if centres.size > 1 else 0.0
    rounding = (clipped - rounded) ** 2 + width**2 / 12 if width < step else step**2 / 12
    return float(counts @ ((centres - clipped) ** 2 + rounding))


def _divergence(centres: Array, counts: Array, to: Range) -> float:
    """KL(P‖Q): P with what lies beyond moved to the ends, Q as 8 bits tell it, spread over the bins that held any."""
    inside = (centres >= to[0]) & (centres <= to[1])
    if not inside.any():
        return np.inf
    kept = counts[inside]
    reference = kept.copy()
    first, last = np.flatnonzero(inside)[[0, -1]]
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last + 1 :].sum()
    levels = np.minimum(((centres[inside] - to[0]) / (to[1] - to[0]) * LEVELS).astype(np.intp), LEVELS - 1)
    held = reference > 0
    totals = np.bincount(levels, kept, LEVELS)
    sizes = np.bincount(levels, held, LEVELS)
    told = np.where(held, totals[levels] / np.maximum(sizes[levels], 1), 0.0)
    p, q = reference[held] / reference.sum(), told[held] / max(told.sum(), 1e-12)
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))


METHODS: dict[Calibrator, Callable[[Histogram], Range]] = {
    Calibrator.MINMAX: minmax,
    Calibrator.PERCENTILE: percentile,
    Calibrator.ENTROPY: entropy,
    Calibrator.MSE: mse,
}
