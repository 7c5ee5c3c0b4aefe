"""External data: whether an ONNX model keeps tensors in other files.

Onnxruntime follows such names wherever they lead: up to 1.23 to any file, and in every version, even for a model that
it was given as bytes, to files in the working folder. So the names are looked for before it sees the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""The way to every tensor of a model: fields that hold messages, by number (onnx.proto)."""
DATA_LOCATION, EXTERNAL = 14, 1
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5


def names_files(model: bytes) -> bool:
    """Whether any tensor is kept elsewhere. Raises: ValueError for bytes that are no protobuf message."""
    waiting = [("ModelProto", memoryview(model))]
    while waiting:
        message, data = waiting.pop()
        for number, value in _fields(data):
            inner = MESSAGES[message].get(number)
            if inner and isinstance(value, memoryview):
                waiting.append((inner, value))
            elif message == "TensorProto" and number == DATA_LOCATION and value == EXTERNAL:
                return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a message's fields (protobuf encoding); 32 bits of a number, as those of an enum."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value & 0xFFFFFFFF
        elif kind == LENGTH:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"field {number} of kind {kind}")
    if at > len(data):
        raise ValueError("cut short")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise ValueError("cut short")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("an endless number")
