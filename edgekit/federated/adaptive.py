"""Adaptive: the server takes what devices learned for a gradient, and its steps are Adam's or Yogi's.

S. Reddi et al., Adaptive Federated Optimization, ICLR 2021 (algorithm 2), whose names are: rate η, first β1, second β2,
floor τ. As there, nothing is corrected for the first rounds; the second moment begins with τ².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit.federated.vectors import Vector, Wide, narrowed

Moments = dict[str, Vector]
"""What a server remembers from round to round, by name, float32 [size] each; of a plain one, nothing."""


@dataclass(frozen=True)
class Plain:
    """The weights move by the delta."""

    def start(self, size: int) -> Moments:
        return {}

    def step(self, moments: Moments, delta: Wide) -> tuple[Moments, Wide]:
        return moments, delta


@dataclass(frozen=True)
class Adaptive:
    """The weights move by rate · m / (√v + floor): by about ``rate`` each, however little the devices agree on."""

    grown: Callable[[Wide, Wide, float], Wide]
    rate: float = 0.1
    first: float = 0.9
    second: float = 0.99
    floor: float = 1e-3

    def start(self, size: int) -> Moments:
        return {"first": np.zeros(size, np.float32), "second": np.full(size, self.floor**2, np.float32)}

    def step(self, moments: Moments, delta: Wide) -> tuple[Moments, Wide]:
        mean = self.first * moments["first"].astype(np.float64) + (1 - self.first) * delta
        square = self.grown(moments["second"].astype(np.float64), delta**2, self.second)
        return _kept(mean, square), self.rate * mean / (np.sqrt(square) + self.floor)


def adam(before: Wide, square: Wide, decay: float) -> Wide:
    """The second moment of FedAdam."""
    return decay * before + (1 - decay) * square


def yogi(before: Wide, square: Wide, decay: float) -> Wide:
    """The second moment of FedYogi, which goes down no faster than up; it stays positive where it began so."""
    return before - (1 - decay) * square * np.sign(before - square)


def _kept(mean: Wide, square: Wide) -> Moments:
    return {"first": narrowed(mean), "second": narrowed(square)}
