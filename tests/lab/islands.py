"""A quantized model in which one operator may have to be computed in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.lab.models import onnx_model

Q, D = "QuantizeLinear", "DequantizeLinear"


def around(path: Path, op: str) -> bytes:
    """x [N, 8] → two multiplications by int8 weights with an operator between them, every tensor quantized → y [N, 8].

    ``Erf`` is one that onnxruntime has only in float, ``Sigmoid`` one that it has in integers.
    """
    weights: dict[str, Any] = {
        "w": np.full((8, 8), 3, np.int8),
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "n": np.int8(0),
    }
    nodes = [
        *_converted("x"),
        helper.make_node(D, ["w", "s", "n"], ["v"]),
        helper.make_node("MatMul", ["x_d", "v"], ["a"]),
        *_converted("a"),
        helper.make_node(op, ["a_d"], ["b"]),
        *_converted("b"),
        helper.make_node("MatMul", ["b_d", "v"], ["c"]),
        *_converted("c"),
    ]
    nodes[-1].output[0] = "y"
    return onnx_model(path, nodes, {"x": ["N", 8]}, {"y": ["N", 8]}, weights).read_bytes()


def _converted(name: str) -> list[onnx.NodeProto]:
    there = helper.make_node(Q, [name, "s", "z"], [f"{name}_q"])
    return [there, helper.make_node(D, [f"{name}_q", "s", "z"], [f"{name}_d"])]
