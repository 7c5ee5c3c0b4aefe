"""ONNX float → the same, ready to be quantized: shapes known, constants folded, batch norms within convolutions.

onnxruntime's own preparation does it. Afterwards every node has a name, by which a layer can be kept in float.
"""

from __future__ import annotations

import onnx

from edgekit.formats import onnx_file
from edgekit.model import Format, Model, derived
from edgekit.passes import Context, Pass
from edgekit.passes.onnx_errors import as_conversion_error

NAME = "clean-onnx"
PER_CHANNEL_OPSET = 13
"""The first opset whose Q/DQ nodes have a scale per channel."""


def run(model: Model, context: Context) -> Model:
    """Raises: ConversionError."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    form, path = context.target.onnx, context.work / f"{model.path.stem}.onnx"
    with as_conversion_error(model, "preparation"):
        document = onnx_file.load(model.path)
        if onnx_file.opset(document) < PER_CHANNEL_OPSET:
            document = onnx.version_converter.convert_version(document, form.opset)
        document.ir_version = form.ir_version
        onnx.save(document, path)
        quant_pre_process(path, path, skip_symbolic_shape=True)
        document = onnx.load(path)
        _name_nodes(document.graph)
        onnx.save(document, path)
    return derived(model, path, NAME)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """A node is called by its first output, as in TFLite, unless it has a name that no other has."""
    seen = set[str]()
    for node in graph.node:
        if not node.name or node.name in seen:
            node.name = node.output[0]
        seen.add(node.name)


clean = Pass(NAME, Format.ONNX, Format.ONNX, run)
