"""Requests as clients send them: the JSON of tritonclient 2.73 and perf_analyzer 2.51, byte for byte as captured."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime.interface import Interface
from edgekit_runtime.tensors import TensorSpec

IMAGE = Interface(
    (TensorSpec("x", "float32", (None, 3, 96, 96)),),
    (TensorSpec("y", "float32", (None, 10)),),
)
PIXELS: NDArray[np.float32] = np.arange(3 * 96 * 96, dtype=np.float32).reshape(1, 3, 96, 96)

TRITONCLIENT = (
    b'{"inputs":[{"name":"x","shape":[1,3,96,96],"datatype":"FP32","parameters":{"binary_data_size":110592}}],'
    b'"parameters":{"binary_data_output":true}}'
)
ALL_OPTIONS = (
    b'{"id":"r 1","inputs":[{"name":"x","shape":[1,3,96,96],"datatype":"FP32",'
    b'"parameters":{"binary_data_size":110592}}],"parameters":{"priority":1,"timeout":500000,"binary_data_output":true,"p":1}}'
)
JSON_OUT = (
    b'{"inputs":[{"name":"x","shape":[1,3,96,96],"datatype":"FP32","parameters":{"binary_data_size":110592}}],'
    b'"outputs":[{"name":"y","parameters":{"binary_data":false}}]}'
)
PERF_ANALYZER = (
    b'{"id":"","inputs":[{"name":"x","datatype":"FP32","shape":[1,3,96,96],"parameters":{"binary_data_size":110592}}],'
    b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}'
)


def body(header: bytes, *tensors: NDArray[Any]) -> tuple[memoryview, int]:
    return memoryview(b"".join((header, *(tensor.tobytes() for tensor in tensors)))), len(header)


def of_json(document: object) -> memoryview:
    return memoryview(json.dumps(document).encode())


def tensor(**changes: Any) -> dict[str, Any]:
    """A request for SMALL by its only input; a change to None leaves the key out."""
    given = {"name": "a", "shape": [2, 3], "datatype": "INT8", "data": [1, 2, 3, 4, 5, 6], **changes}
    return {"inputs": [{key: value for key, value in given.items() if value is not None}]}


SMALL = Interface(
    (TensorSpec("a", "int8", (None, 3)),),
    (TensorSpec("y", "float32", (None, 2)), TensorSpec("z", "int64", (None,))),
)
RESULTS = {"y": np.array([[0.5, -1.0], [2.0, 0.1]], np.float32), "z": np.array([7, -(2**62)])}
