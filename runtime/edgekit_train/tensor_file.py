"""Tensor file: named arrays and a few words about them as the bytes of a safetensors file.

The format (https://github.com/huggingface/safetensors, "Format"): 8 bytes of the header's length, little-endian; the
header, a JSON object of dtype, shape and place by name, and of texts under ``__metadata__``; then the numbers.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit_runtime import fields

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

METADATA = "__metadata__"
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
}
MOST_HEADER, MOST_TENSORS, MOST_AXES, MOST_SIZE = 4 << 20, 10_000, 8, (1 << 31) - 1
_LENGTH = 8
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def dump(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """The same bytes for the same content. Raises: ValueError for a dtype that is none of DTYPES."""
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    parts: list[bytes] = []
    end = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # the widest first: all are aligned
        code, data = _coded(name, tensors[name])
        header[name] = {"dtype": code, "shape": list(tensors[name].shape), "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *parts])


def _coded(name: str, array: Array) -> tuple[str, bytes]:
    little = array.dtype.newbyteorder("<")
    if little not in _CODES:
        raise ValueError(f"{name}: dtype {array.dtype} is none of {', '.join(DTYPES)}")
    return _CODES[little], array.astype(little, copy=False).tobytes()


def parse(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays, which are views of ``data``, and the metadata. Raises: ValueError for what is no such file.

    Every byte belongs to one tensor, as in the original reader.
    """
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    if not _LENGTH < start <= min(len(data), MOST_HEADER + _LENGTH) or data[_LENGTH : _LENGTH + 1] != b"{":
        raise ValueError("no safetensors file")
    try:
        header = fields.load(data[_LENGTH:start].decode())
        metadata = {key: fields.text(value) for key, value in fields.table(header.pop(METADATA, {})).items()}
        places = sorted((_place(header[name]), name) for name in header)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no safetensors header: {error}") from error
    _check_seamless([place for place, _ in places], len(data) - start)
    return {name: _view(data, start, header[name]) for _, name in places}, metadata


def _place(entry: object) -> tuple[int, int]:
    """Of the bytes among those behind the header."""
    entry = fields.table(entry)
    begin, end = (fields.count(each) for each in fields.items(entry["data_offsets"]))
    shape = _shape(entry["shape"])
    if set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("a tensor has a dtype, a shape and data_offsets")
    if end - begin != math.prod(shape) * DTYPES[fields.text(entry["dtype"])].itemsize:
        raise ValueError(f"a tensor of shape {shape} does not have {end - begin} bytes")
    return begin, end


def _shape(value: object) -> list[int]:
    shape = [fields.count(size, 0, MOST_SIZE) for size in fields.items(value)]
    if len(shape) > MOST_AXES:
        raise ValueError(f"a tensor of {len(shape)} axes")
    return shape


def _check_seamless(places: list[tuple[int, int]], size: int) -> None:
    at = 0
    for begin, end in places:
        if begin != at:
            raise ValueError(f"a gap or an overlap at byte {at}")
        at = end
    if at != size or len(places) > MOST_TENSORS:
        raise ValueError(f"{len(places)} tensors have {at} of {size} bytes")


def _view(data: bytes, start: int, entry: dict[str, Any]) -> Array:
    offset = start + entry["data_offsets"][0]
    return np.ndarray(tuple(entry["shape"]), DTYPES[entry["dtype"]], data, offset)
