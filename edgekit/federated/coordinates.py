"""Coordinates: the median and the trimmed mean, number by number; liars are outvoted in each.

D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
ICML 2018 (definitions 1 and 2). With more than twice as many devices as liars, each number lies between the least and
the greatest that an honest device sent.
"""

from __future__ import annotations

import numpy as np

from edgekit.federated.rows import Block, Rows
from edgekit.federated.vectors import Wide


def trimmed_mean(rows: Rows, cut: int) -> Wide:
    """Float64 [size]: the mean of each column without its ``cut`` least and ``cut`` greatest numbers.

    Needs more than 2 · cut rows.
    """
    found = np.empty(rows.size)
    for columns, block in rows.blocks():
        found[columns] = in_order(block)[:, cut : len(block) - cut].mean(axis=1, dtype=np.float64)
    return found


def median(rows: Rows) -> Wide:
    """Float64 [size]: the number in the middle of each column, the mean of the two in the middle of an even number."""
    return trimmed_mean(rows, (len(rows) - 1) // 2)


def in_order(block: Block) -> Block:
    """A block [rows, width] as [width, rows], each column sorted.

    Numbers that lie together are sorted by whole registers: that is six times faster than finding the middle of columns
    that are apart, which is what ``numpy.median`` does along the first axis.
    """
    columns = np.ascontiguousarray(block.T)
    columns.sort(axis=1)
    return columns
