"""Clipping: a delta that is no longer than was agreed, so that no single device can say more than that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

if TYPE_CHECKING:
    from edgekit_train.update import Weights


STRIP = 1 << 15
"""Numbers that are widened, multiplied and added while they are in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Clipped:
    """``whole``: whether nothing was taken away, which adaptive clipping asks of each device."""

    delta: Weights
    whole: bool


def norm(delta: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Of all arrays as one vector (L2), in float64; nan or infinite where one of the numbers is."""
    return math.sqrt(sum(squares(array) for array in delta.values()))


def squares(array: np.ndarray[Any, Any]) -> float:
    """The sum of squares; float64 holds that of any finite float32, so it is finite where they all are.

    By numpy's own sum, as the threads of BLAS wait for each other in such short products.
    """
    numbers = array.reshape(-1)
    strips = (numbers[start : start + STRIP] for start in range(0, numbers.size, STRIP))
    return sum(float(np.square(strip, dtype=np.float64).sum()) for strip in strips)


def clip(delta: Weights, most: float) -> Clipped:
    """Its direction, and a norm up to ``most`` (McMahan et al., "Learning differentially private recurrent language
    models", ICLR 2018). Raises: ValueError for a norm that is not finite, or a ``most`` that is not above 0.
    """
    if not 0 < most < math.inf:
        raise ValueError(f"a norm of at most {most!r}")
    length = norm(delta)
    if not length < math.inf:
        raise ValueError("a delta that is not finite")
    if length <= most:
        return Clipped(delta, True)
    factor = np.float32(most / length * (1 - 1e-6))  # numbers are rounded after this
    return Clipped({name: array * factor for name, array in delta.items()}, False)
