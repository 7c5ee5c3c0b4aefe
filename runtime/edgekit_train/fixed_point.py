"""Fixed point: deltas as numbers modulo 2^32, in which masks cancel to the last bit and sums come out exact.

All devices count alike: a vector holds its delta and nothing else, no word of how many examples that is of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

if TYPE_CHECKING:
    from edgekit_train.update import Weights

    Vector = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class Encoding:
    """``most``: no number of a delta is larger; ``parties``: no more vectors are added.

    Raises: ValueError where sums of so much do not fit into 32 bits with a step to spare.
    """

    most: float
    parties: int

    def __post_init__(self) -> None:
        if not 0 < self.most < math.inf or self.parties < 1:
            raise ValueError("an encoding of nothing")
        if self.parties > 1 << 23:
            raise ValueError("more parties than 32 bits can add with a byte left for the numbers")

    @property
    def scale(self) -> float:
        """So many whole numbers to one: the largest sum, each part rounded up, stays below 2^31."""
        return ((1 << 31) - 1 - self.parties) / (self.parties * self.most)

    def rounding(self, size: int) -> float:
        """How long half a step in each of so many numbers is: so far is a delta from what is written of it, at most."""
        return math.sqrt(size) / (2 * self.scale)

    def encode(self, delta: Weights) -> Vector:
        """uint32 [numbers], tensors in the order of their names.

        Raises: ValueError for a number that is beyond ``most`` (or NaN).
        """
        flat = np.concatenate([np.zeros(0), *(delta[name].reshape(-1) for name in sorted(delta))])
        if not bool(np.all(np.abs(flat) <= self.most)):
            raise ValueError(f"a number beyond ±{self.most:g}: clip the delta first")
        return np.rint(flat * self.scale).astype(np.int64).astype(np.uint32)  # what is below 0 wraps

    def decode(self, total: Vector, count: int, like: Mapping[str, np.ndarray[Any, Any]]) -> Weights:
        """The mean of so many deltas whose vectors were added, in the shapes of ``like``.

        Raises: ValueError for a vector of another size, or more deltas than ``parties``, or none.
        """
        if total.shape != (sum(array.size for array in like.values()),):
            raise ValueError(f"a sum of {total.size} numbers does not have the model's shape")
        if not 1 <= count <= self.parties:
            raise ValueError(f"a sum of {count} of {self.parties} vectors")
        flat = total.astype(np.int32) / (self.scale * count)
        ends = np.cumsum([like[name].size for name in sorted(like)])
        parts = zip(sorted(like), np.split(flat, ends[:-1]) if like else [])
        return {name: part.reshape(like[name].shape).astype(np.float32) for name, part in parts}
