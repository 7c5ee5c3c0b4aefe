"""Clipping: a delta that is no longer than was agreed, so that no single device can say more than that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

if TYPE_CHECKING:
    from edgekit_train.update import Weights


@dataclass(frozen=True, eq=False)
class Clipped:
    """``whole``: whether nothing was taken away, which adaptive clipping asks of each device."""

    delta: Weights
    whole: bool


def norm(delta: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Euclidean, over all tensors together; infinite or NaN where a number is."""
    squares = (float(np.sum(np.square(array, dtype=np.float64))) for array in delta.values())
    return math.sqrt(sum(squares))


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
