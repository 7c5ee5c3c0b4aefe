"""Adaptive clipping: the bound of the norm follows a quantile of the norms that devices have, privately.

G. Andrew, O. Thakkar, H. B. McMahan and S. Ramaswamy, "Differentially private learning with adaptive clipping",
NeurIPS 2021 (algorithm 1, with the geometric update).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

from edgekit_train.noise import Randomness, gaussian


@dataclass(frozen=True)
class AdaptiveClip:
    """``most``: the bound of this round. ``quantile``: the share of devices whose delta should be within it.

    ``deviation``: of the noise on the count of these, in devices; the paper takes a twentieth of them.
    """

    most: float
    deviation: float
    quantile: float = 0.5
    rate: float = 0.2

    def after(self, whole: int, count: int, expected: float, randomness: Randomness = os.urandom) -> AdaptiveClip:
        """The bound of the next round, from how many of ``count`` devices were within this one."""
        noisy = whole - count / 2 + self.deviation * float(gaussian(1, randomness)[0])
        share = min(1.0, max(0.0, noisy / expected + 0.5))  # noise makes no share of what cannot be one
        return replace(self, most=self.most * math.exp(-self.rate * (share - self.quantile)))

    def noise(self, together: float) -> float:
        """That of the sum, so that sum and count spend what ``together`` does alone (theorem 1).

        Raises: ValueError where the count alone spends more.
        """
        rest = together**-2 - (2 * self.deviation) ** -2
        if rest <= 0:
            raise ValueError(f"a deviation of {self.deviation:g} devices is too little beside noise of {together:g}")
        return float(rest**-0.5)
