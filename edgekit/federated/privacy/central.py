"""Central noise: the host sees the deltas, clips each, and adds Gaussian noise to their sum before anything else.

H. B. McMahan, D. Ramage, K. Talwar and L. Zhang, "Learning differentially private recurrent language models", ICLR
2018 (DP-FedAvg, with the number of devices that is expected below the line). All devices weigh alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgekit.federated.vectors import Layout, Wide
from edgekit_train.clipping import clip
from edgekit_train.noise import Randomness, gaussian
from edgekit_train.update import Update


@dataclass(frozen=True, eq=False)
class Summed:
    """``total``: of the clipped deltas, float64 [size]. ``whole``: of ``count``, how many were not too long."""

    total: Wide
    count: int
    whole: int


def summed(layout: Layout, updates: Iterable[Update], most: float) -> Summed:
    """One update at a time. Raises: ValueError for a delta that is not finite, RoundError for one that does not fit."""
    total, count, whole = np.zeros(layout.size), 0, 0
    for update in updates:
        clipped = clip(update.delta, most)
        total += layout.flat(clipped.delta)
        count, whole = count + 1, whole + clipped.whole
    return Summed(total, count, whole)


@dataclass(frozen=True)
class Central:
    """``clip``: the largest norm of a delta. ``noise``: the deviation on the sum over ``clip``, as in ``ledger.Step``.

    ``expected``: so many devices answer on average. The sum is divided by it, as how many came is private as well.
    ``randomness``: the system's; a test's can be computed again.
    """

    clip: float
    noise: float
    expected: float
    randomness: Randomness = os.urandom

    def rule(self, layout: Layout, updates: Iterable[Update]) -> Wide:
        """In place of the mean of a strategy: ``dataclasses.replace(fedavg(), rule=central.rule)``."""
        return self.released(summed(layout, updates, self.clip).total)

    def released(self, total: Wide) -> Wide:
        """What may be known of a sum of clipped deltas, wherever it was added up; float64 [size]."""
        noised: Wide = total + self.noise * self.clip * gaussian(total.size, self.randomness)
        return noised / self.expected
