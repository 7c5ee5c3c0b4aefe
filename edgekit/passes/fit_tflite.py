"""TFLite with weights in int8 and all else in float → all of it in float, which can be quantized by measure.

Older converters wrote such files ("dynamic range"), some of them under the name of float models. What is multiplied
back is what the file says: ``(q - zero_point) * scale``, of the LiteRT 8-bit quantization specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass

NAME = "fit-tflite"


def fit(model: Model, context: Context) -> Model:
    """The same model where no weight is in int8, or where it computes in integers anyway."""
    from edgekit.formats import tflite_file

    if model.format is not Format.TFLITE or model.quantized:
        return model
    document = tflite_file.unpacked(model.path.read_bytes())
    if not sum(_to_float(document, tensor) for graph in document.subgraphs for tensor in graph.tensors):
        return model
    path = context.work / f"{model.path.stem}.float32.tflite"
    path.write_bytes(tflite_file.packed(document))
    return derived(model, path, NAME)


def _to_float(document: Any, tensor: Any) -> bool:
    """Whether it was an int8 weight."""
    from ai_edge_litert import schema_py_generated as schema

    data, told = document.buffers[tensor.buffer].data, tensor.quantization
    if tensor.type != schema.TensorType.INT8 or data is None or told is None or told.scale is None:
        return False
    shape = [1] * len(tensor.shape)
    shape[told.quantizedDimension] = len(told.scale)
    zero = np.reshape(told.zeroPoint, shape) if told.zeroPoint is not None else 0
    stored = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape).astype(np.float32)
    values = (stored - zero) * np.reshape(told.scale, shape)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    tensor.buffer, tensor.type, tensor.quantization = len(document.buffers), schema.TensorType.FLOAT32, None
    document.buffers.append(buffer)
    return True


fit_tflite = Pass(NAME, Format.TFLITE, Format.TFLITE, fit)
