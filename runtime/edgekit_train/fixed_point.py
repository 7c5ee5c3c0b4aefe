"""Fixed point: deltas as numbers modulo 2^32, in which masks cancel to the last bit and sums come out exact.

A delta is weighed by its examples, and the examples are the last number of the vector: the sum of vectors has the
weighted mean in it, and nothing else needs to be known of any device.
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
    """``most``: no number of a delta is larger; ``parties``: no more vectors are added; ``most_examples``: a device
    that has more counts as if it had so many; 1 weighs all alike.

    Raises: ValueError where sums of so much do not fit into 32 bits with a step to spare.
    """

    most: float
    parties: int
    most_examples: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.most < math.inf or min(self.parties, self.most_examples) < 1:
            raise ValueError("an encoding of nothing")
        if not 1 <= self.parties * self.most_examples <= 1 << 23:
            raise ValueError("more parties and examples than 32 bits can add with a byte left for the numbers")

    @property
    def scale(self) -> float:
        """So many whole numbers to one: the largest sum, each part rounded up, stays below 2^31."""
        return ((1 << 31) - 1 - self.parties) / (self.parties * self.most_examples * self.most)

    def encode(self, delta: Weights, examples: int) -> Vector:
        """uint32 [numbers + 1], tensors in the order of their names.

        Raises: ValueError for a number that is beyond ``most`` (or NaN), or no examples.
        """
        if examples < 1:
            raise ValueError(f"{examples} examples")
        weight = min(examples, self.most_examples)
        flat = np.concatenate([np.zeros(0), *(delta[name].reshape(-1) for name in sorted(delta))])
        if not bool(np.all(np.abs(flat) <= self.most)):
            raise ValueError(f"a number beyond ±{self.most:g}: clip the delta first")
        whole = np.rint(flat * (weight * self.scale)).astype(np.int64)
        return np.append(whole, weight).astype(np.uint32)  # what is below 0 wraps

    def decode(self, total: Vector, like: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Weights, int]:
        """The weighted mean of the deltas, in the shapes of ``like``, and the examples that were counted.

        Raises: ValueError for a vector of another size, or a count of examples that ``parties`` cannot have.
        """
        if total.shape != (1 + sum(array.size for array in like.values()),):
            raise ValueError(f"a sum of {total.size} numbers does not have the model's shape")
        examples = int(total[-1])
        if not 1 <= examples <= self.parties * self.most_examples:
            raise ValueError(f"a sum of {examples} examples: somebody's vector was none")
        flat = total[:-1].astype(np.int32) / (self.scale * examples)
        ends = np.cumsum([like[name].size for name in sorted(like)])
        parts = zip(sorted(like), np.split(flat, ends[:-1]) if like else [])
        return {name: part.reshape(like[name].shape).astype(np.float32) for name, part in parts}, examples
