"""A TFLite file that ends in TFLite's own operator for detections: TFLite_Detection_PostProcess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from numpy.typing import NDArray

NAME = "TFLite_Detection_PostProcess"
USUAL = {"y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0}


def write(path: Path, classes: int, anchors: NDArray[Any], **attributes: Any) -> Path:
    """raw [1, n, 4], logits [1, n, classes] → its four outputs, under the names that TensorFlow gives them."""
    count, most = len(anchors), attributes["max_detections"] * attributes["max_classes_per_detection"]
    shapes = {"raw": [1, count, 4], "logits": [1, count, classes], "anchors": [count, 4]}
    shapes |= {NAME: [1, most, 4], f"{NAME}:1": [1, most], f"{NAME}:2": [1, most], f"{NAME}:3": [1]}
    shapes |= {"encodings": [1, count, 4], "scores": [1, count, classes]}
    graph = schema.SubGraphT()
    graph.name, graph.inputs, graph.outputs = b"main", [0, 1], [3, 4, 5, 6]
    graph.tensors = [_tensor(name, shape) for name, shape in shapes.items()]
    graph.tensors[2].buffer = 1
    tanh, logistic = (_code(each) for each in (schema.BuiltinOperator.TANH, schema.BuiltinOperator.LOGISTIC))
    code, stored = _code(schema.BuiltinOperator.CUSTOM), schema.BufferT()
    operator = _operator(2, [7, 8, 2], [3, 4, 5, 6])
    operator.customOptions = np.frombuffer(flexbuffers.Dumps(attributes), np.uint8)
    code.customCode = NAME.encode()
    stored.data = np.frombuffer(anchors.astype("<f4").tobytes(), np.uint8)
    graph.operators = [_operator(0, [0], [7]), _operator(1, [1], [8]), operator]
    document = schema.ModelT()
    document.version, document.subgraphs, document.operatorCodes = 3, [graph], [tanh, logistic, code]
    document.buffers = [schema.BufferT(), stored]
    builder = flatbuffers.Builder(1024)
    builder.Finish(document.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(name: str, shape: list[int]) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), shape, schema.TensorType.FLOAT32, 0
    return tensor


def _operator(code: int, inputs: list[int], outputs: list[int]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    return operator


def _code(builtin: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, builtin if builtin < 127 else 127, 1
    return code
