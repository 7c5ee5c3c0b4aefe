"""Flower records: weights as Flower's messages carry them, and back.

An array there is a file of numpy's. One that comes from another machine is read without numpy's own reader, which takes
the memory that a header asks for before it looks whether there is as much behind it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord

if TYPE_CHECKING:
    from edgekit_train.update import Weights

ARRAYS, CONFIG, METRICS, EXAMPLES, ROUND = "arrays", "config", "metrics", "num-examples", "server-round"
"""Flower's own names of the parts of a message, of how many samples were learned from, and of the round's number."""
CLIP, NOISE = "delta-clip", "delta-noise"
"""Ours of two settings: how long what was learned may be, and the deviation of what is then added to each number."""
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '<f4', 'fortran_order': (False|True), 'shape': \(([0-9, ]{0,200})\), \} *\n",
    re.DOTALL,
)
_FIXED = 10
"""Bytes before the header's text; the last two of them say how long that is."""


def record_of(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in weights.items()})


def weights_of(record: ArrayRecord) -> Weights:
    """Float32, in the record's order; they are views of it. Raises: ValueError."""
    return {name: _read(name, array.data) for name, array in record.items()}


def _read(name: str, data: bytes) -> np.ndarray[Any, Any]:
    found = _HEADER.match(data)
    if not found or int.from_bytes(found[1], "little") != found.end() - _FIXED:
        raise ValueError(f"{name[:80]!r}: no float32 array as numpy writes it")
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    if 4 * math.prod(shape) != len(data) - found.end():
        raise ValueError(f"{name[:80]!r}: {len(data)} bytes for an array of shape {shape}")
    return np.ndarray(shape, "<f4", data, found.end(), order="F" if found[2] == b"True" else "C")
