"""Gathering: the samples of one training in memory, of which there is a bound; of more, a fair sample is held.

Algorithm R (Vitter 1985): each of all that come is held with the same probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

from edgekit_runtime.errors import InvalidInput
from edgekit_train.trainer import checked

if TYPE_CHECKING:
    from edgekit_train.trainer import Sample

    Array = np.ndarray[Any, Any]

OVERHEAD = 160
"""Bytes that Python needs beside the numbers of a row."""


@dataclass(frozen=True)
class Gathered:
    """Rows, float32 [size] each, and their classes."""

    rows: list[Array]
    labels: list[int]

    def batches(self, order: Array, size: int) -> Iterator[tuple[Array, Array]]:
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield np.stack([self.rows[i] for i in chosen]), np.array([self.labels[i] for i in chosen])


def gathered(data: Iterable[Sample], shape: tuple[int, int], most_bytes: int, rng: np.random.Generator) -> Gathered:
    """``shape``: features of a sample, and classes. Raises: InvalidInput for a sample that fits not, and for none."""
    size, classes = shape
    rows: list[Array] = []
    labels: list[int] = []
    most = max(1, most_bytes // (4 * size + OVERHEAD))
    for count, (x, y) in enumerate(data):
        row, label = checked(x, y, size, classes)
        place = count if count < most else int(rng.integers(count + 1))
        if place == len(rows):
            rows.append(row.copy())
            labels.append(label)
        elif place < most:
            rows[place], labels[place] = row.copy(), label
    if not rows:
        raise InvalidInput("there is no sample to train with")
    return Gathered(rows, labels)
