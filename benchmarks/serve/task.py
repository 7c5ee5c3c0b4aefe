"""The task: a small convolution net, some inputs, and what it must answer to each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

NAME = "net"
SHAPE, CLASSES = (1, 3, 96, 96), 10
CHANNELS = (3, 48, 128, 160)
INPUTS = 8
"""So many, all different: an answer that belongs to another request is seen."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """``model``: a file, which takes ``x``, float32 of ``SHAPE``, and gives ``y``, float32 [1, ``CLASSES``]."""

    model: Path
    inputs: tuple[Array, ...]
    answers: tuple[Array, ...]


def make(folder: Path) -> Task:
    chance = np.random.default_rng(0)
    model = folder / f"{NAME}.onnx"
    model.write_bytes(_net(chance))
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = tuple(chance.normal(size=SHAPE).astype(np.float32) for _ in range(INPUTS))
    return Task(model, inputs, tuple(session.run(["y"], {"x": each})[0] for each in inputs))


def _net(chance: np.random.Generator) -> bytes:
    """Three convolutions of stride 2, the mean of what they see, and a matrix: a millisecond of one core."""
    nodes, constants, last = [], list[onnx.TensorProto](), "x"
    for number, (before, after) in enumerate(pairwise(CHANNELS)):
        weights = chance.normal(size=(after, before, 3, 3)) * np.sqrt(2 / (9 * before))
        constants.append(numpy_helper.from_array(weights.astype(np.float32), f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        last = f"r{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last]))
    constants.append(numpy_helper.from_array(chance.normal(size=(CHANNELS[-1], CLASSES)).astype(np.float32), "w"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["mean"]))
    nodes += [helper.make_node("Flatten", ["mean"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, CLASSES))
    graph = helper.make_graph(nodes, NAME, [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data
