"""Krum: the update whose neighbours are nearest; Multi-Krum: the mean of several of these.

P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent, NIPS 2017 (section 4), for n >= 2f + 3 devices of which f lie. The score of an update is the sum of the squared
distances to the n - f - 2 others that are nearest. Multi-Krum may average n - f - 2 at most: G. Damaskinos et al.,
AggregaThor, MLSys 2019. The mean is plain, as in the paper: a liar would weigh as many examples as it claims.
"""

from __future__ import annotations

import numpy as np

from edgekit.federated.rows import Rows
from edgekit.federated.vectors import Wide


def krum(rows: Rows, liars: int) -> Wide:
    """Float64 [size]: the update of the least score."""
    return _mean(rows, ranked(distances(rows), liars)[:1])


def multi_krum(rows: Rows, liars: int) -> Wide:
    """Float64 [size]: the mean of the n - f - 2 updates of the least scores."""
    return _mean(rows, ranked(distances(rows), liars)[: len(rows) - liars - 2])


def distances(rows: Rows) -> Wide:
    """Squared distances between all rows, float64 [n, n]; those from a row to itself are 0.

    They come of the products of rows, added up over blocks, in float64: in float32, distances between updates that have
    much in common are lost in rounding, and a liar's large numbers overflow.
    """
    products = np.zeros((len(rows), len(rows)))
    for _, block in rows.blocks():
        wide = block.astype(np.float64)
        products += wide @ wide.T
    squares = np.diag(products)
    found = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(found, 0)
    return found


def ranked(apart: Wide, liars: int) -> list[int]:
    """Rows by their scores, the least first; of equal ones the first."""
    return [int(number) for number in np.argsort(scores(apart, liars), kind="stable")]


def scores(apart: Wide, liars: int) -> Wide:
    """Of each row of squared distances [n, n], the sum of the n - f - 2 least to others; of one at the least."""
    neighbours = min(max(1, len(apart) - liars - 2), len(apart) - 1)
    nearest = np.partition(apart, neighbours, axis=1)[:, : neighbours + 1]  # itself is among them, and adds 0
    return np.asarray(nearest.sum(axis=1))


def _mean(rows: Rows, chosen: list[int]) -> Wide:
    found = np.empty(rows.size)
    for columns, block in rows.blocks(sorted(chosen)):
        found[columns] = block.mean(axis=0, dtype=np.float64)
    return found
