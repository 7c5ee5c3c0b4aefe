"""Census: what a data set holds, counted in one walk through it; no sample is kept.

Digests are of the samples as they are given, before any preprocessing: names, dtypes, shapes and bytes. What is counted
of pixels is counted where an input looks like an image: four axes, one of them of 1, 3 or 4 colours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Dataset, Sample
from edgekit_runtime.preprocess import Preprocess

Array = NDArray[Any]

COLORS = (1, 3, 4)
LEAST_SIDE = 8
"""Pixels; on less than that, whether neighbours are related is chance."""
WINDOW = 256
"""Pixels of height and of width, from the middle, in which neighbours are compared."""
UNRELATED = 0.2
"""The neighbours' correlation below which an image is called noise. White noise has 0.05 on 8 × 8 pixels and 0.00 on
224 × 224; photographs, text lines, MFCC features and 8 × 8 digits had from 0.30 on, in the median from 0.59."""
LEAST_VALUES = 16
"""A sample of fewer values may well be constant, or equal another one."""


@dataclass(frozen=True)
class Column:
    """One input over all samples. ``negative`` is a share of the values; ``constant`` counts the samples with a single
    value in them, ``noise`` the images whose neighbouring pixels are unrelated; ``dead`` are the colours that never
    change, of ``colors`` in all (0 for what does not look like an image).
    """

    dtype: str
    low: float
    high: float
    mean: float
    std: float
    negative: float
    constant: int
    noise: int
    colors: int
    dead: tuple[int, ...]

    @property
    def rms(self) -> float:
        """The root of the mean square: how large the values are."""
        return math.hypot(self.mean, self.std)


@dataclass(frozen=True)
class Census:
    """``digest`` is over all samples in their order; ``name`` is the source as the person wrote it.

    ``seen`` has 16 bytes of the digest of each sample that can be told from others, and its first number. There are
    ``telling`` such samples: one of a few values, or with one value all over, may equal another by chance.
    """

    name: str
    role: str
    digest: str
    samples: int
    labelled: int
    telling: int
    seen: dict[bytes, int]
    columns: dict[str, Column]

    def manifest(self) -> dict[str, Any]:
        """What a bundle tells of the data it was made with; JSON, without the source's folders."""
        return {
            "role": self.role,
            "source": Path(self.name).name,
            "samples": self.samples,
            "repeated": self.telling - len(self.seen),
            "labelled": self.labelled,
            "digest": self.digest,
            "inputs": {name: [column.low, column.high] for name, column in self.columns.items()},
        }


def take(data: Dataset) -> Census:
    """The census of a data set. Raises: DataError."""
    return of_samples(data.name, data.role, data, data.interface.preprocess)


def of_samples(name: str, role: str, samples: Iterable[Sample], preprocess: dict[str, Preprocess]) -> Census:
    """The census of some samples, of which those to be preprocessed have their colours last."""
    whole, seen, tallies = hashlib.sha256(), dict[bytes, int](), dict[str, _Tally]()
    count, labelled, telling = 0, 0, 0
    for sample in samples:
        digest = digest_of_sample(sample)
        whole.update(digest)
        labelled += sample.label is not None
        if any(array.size >= LEAST_VALUES and array.min() != array.max() for array in sample.inputs.values()):
            telling += 1
            seen.setdefault(digest[:16], count)
        count += 1
        for key, array in sample.inputs.items():
            tallies.setdefault(key, _Tally()).add(array, color_axis(array.shape, key in preprocess))
    columns = {key: tally.column() for key, tally in sorted(tallies.items())}
    return Census(name, role, f"sha256:{whole.hexdigest()}", count, labelled, telling, seen, columns)


def digest_of_sample(sample: Sample) -> bytes:
    """The SHA-256 over name, dtype, shape and bytes of each input, by name; the label does not count."""
    digest = hashlib.sha256()
    for name, array in sorted(sample.inputs.items()):
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def color_axis(shape: tuple[int | None, ...], colors_last: bool = False) -> int | None:
    """Which axis of an image [batch, …] holds its colours, 1 or 3; None for what does not look like an image."""
    if len(shape) != 4:
        return None
    sides = {3: (shape[1], shape[2])} if colors_last else {3: (shape[1], shape[2]), 1: (shape[2], shape[3])}
    for axis, pair in sides.items():
        if shape[axis] in COLORS and all(side is None or side >= LEAST_SIDE for side in pair):
            return axis
    return None


def relation(image: Array) -> float:
    """How alike neighbouring pixels of an image [height, width, colours] are: the correlation of each pixel, less its
    colour's mean, with the next one, down or to the right, whichever is larger; NaN for an image of one colour.
    """
    top, left = (max(0, (size - WINDOW) // 2) for size in image.shape[:2])
    x = image[top : top + WINDOW, left : left + WINDOW].astype(np.float64)
    x -= x.mean((0, 1))
    power = float((x * x).sum())
    if not power:
        return math.nan
    return max(float((x[1:] * x[:-1]).sum()), float((x[:, 1:] * x[:, :-1]).sum())) / power


@dataclass
class _Tally:
    """Running sums over the samples of one input."""

    dtype: str = ""
    values: int = 0
    negative: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    constant: int = 0
    noise: int = 0
    lows: dict[int, float] = field(default_factory=dict)
    highs: dict[int, float] = field(default_factory=dict)

    def add(self, array: Array, axis: int | None) -> None:
        low, high = float(array.min()), float(array.max())
        self.dtype = array.dtype.name
        self.values += array.size
        self.negative += int((array < 0).sum()) if low < 0 else 0
        self.total += float(array.sum(dtype=np.float64))
        flat = array.ravel()
        self.squares += float(np.einsum("i,i->", flat, flat, dtype=np.float64))  # no copy in float64
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.constant += low == high and array.size >= LEAST_VALUES
        if axis is not None:
            self._add_image(np.moveaxis(array, axis, -1))

    def _add_image(self, images: Array) -> None:
        self.noise += min(map(relation, images)) < UNRELATED
        for color in range(images.shape[-1]):
            values = images[..., color]
            self.lows[color] = min(self.lows.get(color, math.inf), float(values.min()))
            self.highs[color] = max(self.highs.get(color, -math.inf), float(values.max()))

    def column(self) -> Column:
        mean = self.total / self.values
        std = math.sqrt(max(0.0, self.squares / self.values - mean * mean))
        dead = tuple(color for color, low in self.lows.items() if low == self.highs[color])
        return Column(
            dtype=self.dtype,
            low=self.low,
            high=self.high,
            mean=mean,
            std=std,
            negative=self.negative / self.values,
            constant=self.constant,
            noise=self.noise,
            colors=len(self.lows),
            dead=dead,
        )
