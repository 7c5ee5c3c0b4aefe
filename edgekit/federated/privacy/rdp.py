"""RDP: the Rényi divergences of a round that samples devices and adds Gaussian noise, and the (ε, δ) they amount to.

I. Mironov, "Rényi differential privacy", CSF 2017; I. Mironov, K. Talwar and L. Zhang, "Rényi differential privacy of
the sampled Gaussian mechanism", 2019, arXiv:1908.10530. Two fleets are neighbours when one has one device more. The
divergences of several rounds add up.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
"""A divergence for each of ORDERS."""

ORDERS = np.array([*(1 + step / 10 for step in range(1, 100)), *range(11, 64), 80, 96, 128, 256, 512, 1024])
LEAST_NOISE = 0.1
"""What is less protects nothing: ε of one round would be above 100."""
_TAIL = 12
"""So many standard deviations are integrated over; beyond them lies 1e-32."""


@lru_cache(maxsize=256)
def curve(rate: float, noise: float) -> Curve:
    """Of a round in which each device takes part with probability ``rate``, whatever others do.

    ``noise``: the standard deviation on the sum over the largest norm of a device's part in it. Raises: ValueError.
    """
    if not 0 <= rate <= 1 or not LEAST_NOISE <= noise < math.inf:
        raise ValueError(f"a rate of {rate!r}, noise of {noise!r}: from 0 to 1, and from {LEAST_NOISE}")
    if rate == 1:
        return ORDERS / (2 * noise**2)
    if rate == 0:
        return np.zeros(len(ORDERS))
    return np.array([_divergence(rate, noise, float(order)) for order in ORDERS])


def _divergence(rate: float, noise: float, order: float) -> float:
    """Of log E[((1 - q) + q·exp((2z - 1) / 2σ²))^α] / (α - 1), z of N(0, σ²): the larger one of both ways.

    By the trapezoidal rule, whose error falls exponentially in the step as the function is analytic: its singularities
    lie πσ² from the real line, and the Gaussian allows a step of its own width.
    """
    step = min(noise / 8, noise**2 / 4)
    z = np.arange(-_TAIL * noise, order + _TAIL * noise, step)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * noise**2))
    logs = order * ratio - z**2 / (2 * noise**2)
    most = float(np.max(logs))
    integral = most + math.log(float(np.sum(np.exp(logs - most))) * step / (noise * math.sqrt(2 * math.pi)))
    return max(0.0, integral) / (order - 1)


def epsilon(divergences: Curve, delta: float) -> float:
    """The least ε that they amount to with this δ, from 0 on.

    B. Balle, G. Barthe, M. Gaboardi, J. Hsu and T. Sato, "Hypothesis testing interpretations and Rényi differential
    privacy", AISTATS 2020, theorem 21; C. Canonne, G. Kamath and T. Steinke, "The discrete Gaussian for differential
    privacy", NeurIPS 2020, proposition 12. Raises: ValueError for a δ that is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"δ of {delta!r} is not between 0 and 1")
    if not divergences.any():
        return 0.0
    candidates = divergences + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(np.min(candidates)))
