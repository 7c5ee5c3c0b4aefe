"""Vectors: the weights of a model as one vector, in the order of their names, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import RoundError
from edgekit_train.update import Weights

Vector = NDArray[np.float32]
Wide = NDArray[np.float64]
"""What is added up: a sum of a thousand float32 in float32 would be off by more than what a device learned."""

UNCHECKED = "check updates before they are aggregated"


@dataclass(frozen=True)
class Layout:
    """The names of arrays, sorted, and the shape of each."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """How many numbers they hold together."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def flat(self, weights: Mapping[str, NDArray[Any]]) -> Vector:
        """One vector float32 [size]. Raises: RoundError for arrays of other names or shapes, or not finite."""
        if layout_of(weights) != self:
            raise RoundError("an update has other arrays than the model", UNCHECKED)
        parts = [np.ravel(weights[name]) for name, _ in self.shapes]
        vector = np.concatenate(parts, dtype=np.float32) if parts else np.zeros(0, np.float32)
        if not np.isfinite(vector).all():
            raise RoundError("an update has numbers that are not finite", UNCHECKED)
        return vector

    def apart(self, vector: NDArray[Any]) -> Weights:
        """The arrays float32 that a vector [size] is made of."""
        narrow, found, start = narrowed(vector), dict[str, Vector](), 0
        for name, shape in self.shapes:
            end = start + math.prod(shape)
            found[name] = narrow[start:end].reshape(shape)
            start = end
        return found


def layout_of(weights: Mapping[str, NDArray[Any]]) -> Layout:
    return Layout(tuple((name, weights[name].shape) for name in sorted(weights)))


def narrowed(vector: NDArray[Any]) -> Vector:
    """As float32; what that cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)
