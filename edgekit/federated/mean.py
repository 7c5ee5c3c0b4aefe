"""Mean: updates folded into one sum as they come, by their examples or all alike; memory is the same for any number.

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
    return _mean(layout, ((update, update.examples) for update in updates))


def alike(layout: Layout, updates: Iterable[Update]) -> Wide:
    """The mean of the deltas, float64 [size], whatever devices say of their examples; zeros for no updates.

    Of n deltas no longer than a clip none moves it further than clip / n.
    """
    return _mean(layout, ((update, 1) for update in updates))


def _mean(layout: Layout, weighed: Iterable[tuple[Update, int]]) -> Wide:
    total, weights = np.zeros(layout.size), 0
    for update, weight in weighed:
        _add(total, layout.flat(update.delta), weight)
        weights += weight
    total /= max(1, weights)
    return total


def _add(total: Wide, vector: Vector, weight: float) -> None:
    """Adds weight · vector to total, in float64."""
    scratch = np.empty(min(STRIP, total.size))
    for start in range(0, total.size, STRIP):
        part = vector[start : start + STRIP]
        product = scratch[: part.size]
        np.multiply(part, weight, out=product, dtype=np.float64)
        total[start : start + STRIP] += product
