"""ONNX of Q/DQ nodes → the same in operators of integers (QOperator), by onnxruntime's own optimizer.

What it fuses becomes QLinearConv, QLinearMatMul and those of com.microsoft; the rest keeps its Q/DQ nodes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from edgekit.formats import onnx_file
from edgekit.target import OnnxForm


def to_qoperator(document: onnx.ModelProto, form: OnnxForm) -> onnx.ModelProto:
    """Raises: what onnxruntime raises where it does not take the model."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # no layout of this host's
        options.optimized_model_filepath = str(Path(folder, "model.onnx"))
        options.log_severity_level = 3
        options.add_session_config_entry("session.qdqisint8allowed", "1")  # else it makes uint8 of int8 for some hosts
        ort.InferenceSession(document.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx_file.load(Path(options.optimized_model_filepath))
    onnx_file.drop_unused_opsets(made)
    made.ir_version = form.ir_version
    return made
