"""Mean: updates folded into one sum as they come, weighted by their examples; the memory is the same for any number.

H. B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017 (algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgekit.federated.vectors import Layout, Vector, Wide
from edgekit_train.clipping import STRIP
from edgekit_train.update import Update


def by_examples(layout: Layout, updates: Iterable[Update]) -> Wide:
    """The mean of the deltas, float64 [size], each with the weight of its examples; zeros for no updates."""
    total, weight = np.zeros(layout.size), 0
    for update in updates:
        _add(total, layout.flat(update.delta), update.examples)
        weight += update.examples
    total /= max(1, weight)
    return total


def _add(total: Wide, vector: Vector, weight: float) -> None:
    """Adds weight · vector to total, in float64."""
    scratch = np.empty(min(STRIP, total.size))
    for start in range(0, total.size, STRIP):
        part = vector[start : start + STRIP]
        product = scratch[: part.size]
        np.multiply(part, weight, out=product, dtype=np.float64)
        total[start : start + STRIP] += product
