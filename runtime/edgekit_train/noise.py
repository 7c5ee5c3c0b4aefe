"""Noise: Gaussian, from bytes that nobody can guess.

The bytes come from the operating system (``os.urandom``) unless a test hands in its own, such as
``numpy.random.default_rng(7).bytes``: noise that can be computed again protects nothing. Each number is the sum of four
Gaussians, halved: the gaps that rounding leaves among the values of one are filled by the others (Mironov, CCS 2012;
Holohan and Braghin, "Secure random sampling in differential privacy", ESORICS 2021).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

if TYPE_CHECKING:
    from edgekit_train.update import Weights

Randomness = Callable[[int], bytes]
"""So many random bytes."""
AT_ONCE = 1 << 16


def gaussian(size: int, randomness: Randomness = os.urandom) -> np.ndarray[Any, Any]:
    """Independent, of mean 0 and variance 1; float64 [size]."""
    return np.concatenate(
        [_some(min(AT_ONCE, size - at), randomness) for at in range(0, size, AT_ONCE)] or [np.zeros(0)]
    )


def _some(size: int, randomness: Randomness) -> np.ndarray[Any, Any]:
    """Box and Muller, 1958: two Gaussians of two uniform numbers; both of two such pairs are added."""
    bits = np.frombuffer(randomness(8 * 4 * size), np.uint64).reshape(4, size) >> np.uint64(11)
    uniform = (bits + 0.5) * 2.0**-53  # never 0
    radius, angle = np.sqrt(-2 * np.log(uniform[:2])), 2 * np.pi * uniform[2:]
    total: np.ndarray[Any, Any] = np.sum(radius * (np.cos(angle) + np.sin(angle)), axis=0) / 2
    return total


def noised(weights: Weights, deviation: float, randomness: Randomness = os.urandom) -> Weights:
    """With noise of this standard deviation on every number; float32. Raises: ValueError for a negative one or NaN."""
    if not deviation >= 0:
        raise ValueError(f"a standard deviation of {deviation!r}")
    return {
        name: (array + deviation * gaussian(array.size, randomness).reshape(array.shape)).astype(np.float32)
        for name, array in weights.items()
    }
