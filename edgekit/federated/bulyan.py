"""Bulyan: Krum chooses again and again, then each number is a mean around the median of those that were chosen.

E. M. El Mhamdi, R. Guerraoui, S. Rouault, The Hidden Vulnerability of Distributed Learning in Byzantium, ICML 2018, for
n >= 4f + 3 devices of which f lie. A liar whose update is as near as the others cannot hide one large number in it.
"""

from __future__ import annotations

import numpy as np

from edgekit.federated.coordinates import in_order
from edgekit.federated.krum import distances, scores
from edgekit.federated.rows import Block, Rows
from edgekit.federated.vectors import Wide


def bulyan(rows: Rows, liars: int) -> Wide:
    """Float64 [size]: of n - 2f updates that were chosen, each column's mean of the n - 4f nearest to its median."""
    found = np.empty(rows.size)
    for columns, block in rows.blocks(chosen(distances(rows), liars)):
        found[columns] = around_median(in_order(block), len(rows) - 4 * liars)
    return found


def chosen(apart: Wide, liars: int) -> list[int]:
    """Which n - 2f rows Krum gives, each time from those that are left; sorted."""
    left, found = np.arange(len(apart)), list[int]()
    while len(found) < len(apart) - 2 * liars:
        best = scores(apart[np.ix_(left, left)], liars).argmin()
        found.append(int(left[best]))
        left = np.delete(left, best)
    return sorted(found)


def around_median(columns: Block, count: int) -> Wide:
    """The mean, float64 [width], of the ``count`` numbers nearest to the median of each sorted column [width, rows].

    They stand together, so it is asked which window of them reaches least far.
    """
    rows = columns.shape[1]
    middle = columns[:, (rows - 1) // 2 : rows // 2 + 1].mean(axis=1, dtype=np.float64, keepdims=True)
    first, last = columns[:, : rows - count + 1], columns[:, count - 1 :]
    start = np.maximum(middle - first, last - middle).argmin(axis=1)
    windows = np.take_along_axis(columns, start[:, None] + np.arange(count), axis=1)
    return np.asarray(windows.mean(axis=1, dtype=np.float64))
