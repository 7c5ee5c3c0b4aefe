"""Compression: a delta in fewer bytes, and what was left out of it, which goes with the next one.

The largest numbers of each tensor (Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018), rounded
at random to int8 so that they are right on average (Alistarh et al., "QSGD", NeurIPS 2017); with the error fed back,
which makes any such compression converge (Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np

from edgekit_train.packed import MOST_SCALE, Packed
from edgekit_train.update import Weights

LARGEST = 127


@dataclass(frozen=True)
class Compression:
    """``share``: of each tensor's numbers, one at least, the largest by magnitude. ``int8``: a byte for each."""

    share: float = 1.0
    int8: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"a share of {self.share!r} is not above 0 and up to 1")


@dataclass(frozen=True, eq=False)
class Compressed:
    """``delta``: what the receiver will unpack. ``residual``: what it will not have; the device keeps it."""

    packed: dict[str, Packed]
    delta: Weights
    residual: Weights

    @property
    def bytes(self) -> int:
        """Of the numbers that travel; the file's header comes on top."""
        return sum(each.bytes for each in self.packed.values())

    @property
    def ratio(self) -> float:
        """Bytes of float32 for each byte that travels."""
        return sum(array.nbytes for array in self.delta.values()) / max(1, self.bytes)


def compress(
    delta: Weights, how: Compression, residual: Mapping[str, np.ndarray[Any, Any]], random: np.random.Generator
) -> Compressed:
    """``residual``: of the update before, or {}; a tensor of another shape there is forgotten, as the model changed.

    ``random`` rounds and nothing else: it may be seeded. Raises: ValueError for numbers that are not finite.
    """
    whole = {name: _with(array, residual.get(name)) for name, array in delta.items()}
    packed = {name: _pack(name, array, how, random) for name, array in whole.items()}
    sent = {name: each.unpacked() for name, each in packed.items()}
    return Compressed(packed, sent, {name: whole[name] - sent[name] for name in delta})


def _with(array: np.ndarray[Any, Any], left: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    return array if left is None or left.shape != array.shape else array + left


def _pack(name: str, array: np.ndarray[Any, Any], how: Compression, random: np.random.Generator) -> Packed:
    flat = array.reshape(-1)
    most = float(np.max(np.abs(flat), initial=0.0))
    if not most <= LARGEST * MOST_SCALE:
        raise ValueError(f"{name}: numbers that are not finite, or larger than can be sent")
    at = None if how.share == 1 or not flat.size else _largest(flat, how.share)
    values = array if at is None else flat[at]
    if not how.int8:
        return Packed(values, array.shape, None, at)
    scale = float(np.float32(most / LARGEST))
    return Packed(_rounded(values, scale, random), array.shape, scale, at)


def _largest(flat: np.ndarray[Any, Any], share: float) -> np.ndarray[Any, Any]:
    kept = max(1, math.ceil(share * flat.size))
    places = np.argpartition(np.abs(flat), flat.size - kept)[flat.size - kept :].astype(np.uint32)
    places.sort()
    return places


def _rounded(values: np.ndarray[Any, Any], scale: float, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """Up or down, so that the mean is the value; int8 of the same shape."""
    if not scale:
        return np.zeros(values.shape, np.int8)
    steps = np.floor(values / np.float64(scale) + random.random(values.shape))
    whole: np.ndarray[Any, Any] = np.clip(steps, -LARGEST, LARGEST).astype(np.int8)
    return whole
