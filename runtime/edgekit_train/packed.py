"""Packed: a float32 tensor in fewer bytes: int8 with a scale, float16, or only some of its numbers and their places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_SCALE = 1e36
"""127 times as much is a float32 still."""


@dataclass(frozen=True, eq=False)
class Packed:
    """``values``: float32, float16 or int8, of ``shape``; or [k], for those at the places ``at`` of the flat tensor.

    ``scale``: what int8 counts in. ``at``: uint32 [k], each larger than the one before; elsewhere is 0.
    """

    values: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    scale: float | None = None
    at: np.ndarray[Any, Any] | None = None

    @property
    def bytes(self) -> int:
        """Of its numbers in a file."""
        return self.values.nbytes + (0 if self.at is None else self.at.nbytes)

    def check(self) -> None:
        """Raises: ValueError for parts that do not fit each other."""
        if self.values.dtype.newbyteorder("=") not in (np.dtype("f4"), np.dtype("f2"), np.dtype("i1")):
            raise ValueError(f"values of dtype {self.values.dtype}")
        if (self.values.dtype == np.int8) != (self.scale is not None):
            raise ValueError("int8 has a scale, and nothing else has")
        if self.scale is not None and not 0 <= self.scale <= MOST_SCALE:
            raise ValueError(f"a scale of {self.scale!r}")
        if self.at is None:
            _check(self.values.shape == self.shape, "values of another shape")
        else:
            _check_places(self.at, self.values.shape, math.prod(self.shape))

    def unpacked(self) -> np.ndarray[Any, Any]:
        """float32 [shape], in C order and in memory of its own."""
        with np.errstate(all="ignore"):  # a NaN is passed on
            values = np.array(self.values, np.float32, order="C")
        if self.scale is not None:
            values *= np.float32(self.scale)
        if self.at is None:
            return values
        whole = np.zeros(math.prod(self.shape), np.float32)
        whole[self.at] = values
        return whole.reshape(self.shape)


def _check_places(at: np.ndarray[Any, Any], shape: tuple[int, ...], size: int) -> None:
    _check(at.dtype.newbyteorder("=") == np.uint32 and at.ndim == 1 and at.shape == shape, "a place for each value")
    wide = at.astype(np.int64)
    _check(not len(at) or int(wide[-1]) < size, "a place outside of the tensor")
    _check(bool(np.all(np.diff(wide) > 0)), "places that do not rise")


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"a packed tensor that does not fit: {what}")
