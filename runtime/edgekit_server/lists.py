"""Lists: the numbers of a JSON document as arrays, exactly or not at all.

numpy alone would take "1.5" and true for numbers, null for NaN, and 300 for an int8 of 44.
"""

from __future__ import annotations

import json
import math
import sys
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_runtime import fields
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.tensors import fits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit_runtime.tensors import TensorSpec

    Array = np.ndarray[Any, Any]

TAKES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
"""By the kind of a dtype."""
LONGEST = 4300
"""Digits of a whole number: reading one takes time by their square. Newer Pythons have this limit of their own."""


@contextmanager
def reading() -> Iterator[None]:
    """What is wrong with a request. Raises: InvalidInput."""
    try:
        yield
    except KeyError as error:
        raise InvalidInput(f"the request has no {error}") from error
    except RecursionError:
        raise InvalidInput("the request is nested too deeply") from None
    except ValueError as error:
        raise InvalidInput(f"the request cannot be read: {error}") from error


def load(data: memoryview) -> dict[str, Any]:
    """A JSON object. Raises: ValueError for anything else, and for NaN and infinities, which only tensors can carry;
    RecursionError.
    """
    return fields.table(_DECODER.decode(str(data, "utf-8")))


def dump(document: object) -> bytes:
    """Compact. A NaN or an infinity is written bare, as Triton and TensorFlow Serving write it."""
    return _ENCODER.encode(document).encode()


def shape_of(data: object) -> list[int]:
    """Of nested lists, as their first elements have it."""
    sizes = []
    while isinstance(data, list):
        sizes.append(len(data))
        data = data[0] if data else None
    return sizes


def checked(shape: object, spec: TensorSpec) -> tuple[int, ...]:
    """The shape that was told for an input, if the input can have it. Raises: ValueError, InvalidInput."""
    sizes = fields.items(shape)
    if set(map(type, sizes)) <= {int} and max(sizes, default=0) <= fields.MOST and fits(spec.shape, tuple(sizes)):
        return tuple(sizes)
    raise InvalidInput(f"input {spec}: got shape {str(sizes[:9])[:80]}")


def array(data: object, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """Nested lists of exactly this shape, or one flat list of as many numbers. Raises: InvalidInput."""
    try:
        leaves = _leaves(data, shape) if shape_of(data) == list(shape) else fields.items(data)
        return _numbers(leaves, np.dtype(spec.dtype), math.prod(shape)).reshape(shape)
    except ValueError as error:
        raise InvalidInput(f"input {spec}: {error}") from error


def _leaves(data: Any, shape: tuple[int, ...]) -> list[Any]:
    rest = data if shape else [data]
    for size in shape[1:]:
        if set(map(type, rest)) != {list} or set(map(len, rest)) != {size}:
            raise ValueError("lists that should be alike differ")
        rest = list(chain.from_iterable(rest))
    return fields.items(rest)


def _numbers(leaves: list[Any], dtype: np.dtype[Any], count: int) -> Array:
    if len(leaves) != count:
        raise ValueError(f"got {len(leaves)} elements, and {count} are in its shape")
    odd = set(map(type, leaves)) - TAKES[dtype.kind]
    if odd:
        raise ValueError(f"a {odd.pop().__name__} is among them")
    if dtype.kind == "f":
        return _finite(leaves, dtype)
    if dtype.kind != "b":
        limits = np.iinfo(dtype)
        if min(leaves) < limits.min or max(leaves) > limits.max:
            raise ValueError(f"a number is beyond {dtype}")
    return np.array(leaves, dtype)


def _finite(leaves: list[Any], dtype: np.dtype[Any]) -> Array:
    try:
        with np.errstate(over="ignore"):
            found: Array = np.array(leaves, np.float64).astype(dtype)
    except OverflowError:
        found = np.array(np.inf)
    if not np.isfinite(found).all():
        raise ValueError(f"a number is beyond {dtype}")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > LONGEST:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


_LIMITED = hasattr(sys, "set_int_max_str_digits")
_DECODER = json.JSONDecoder(parse_constant=_refused, parse_int=None if _LIMITED else _whole)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
