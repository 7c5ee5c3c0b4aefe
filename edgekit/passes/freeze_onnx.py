"""ONNX with free sizes → the same with sizes of its inputs fixed.

What the file says of other tensors' sizes is worked out anew by ONNX's shape inference. Names of sizes are not
followed: exporters call different ones the same ("?"), so that onnxruntime's ``make_input_shape_fixed``, which fixes
all of one name at once, gives height and width one size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from edgekit.formats import onnx_file
from edgekit.model import Model
from edgekit.passes import Context
from edgekit.passes.proof import check_engines
from edgekit_runtime.engines import EngineOptions, ort
from edgekit_runtime.tensors import TensorSpec


def write(model: Model, path: Path, context: Context) -> None:
    """Raises: UnsupportedFormat, DataError, EngineError, ConversionError where it gives something else than before."""
    document = onnx_file.load(model.path)
    before = ort.load(document.SerializeToString(), EngineOptions())
    fixed = freeze(document, model.inputs)
    check_engines(model, before, ort.load(fixed.SerializeToString(), EngineOptions()), context.feeds(model))
    onnx.save(fixed, path)


def freeze(document: onnx.ModelProto, inputs: Iterable[TensorSpec]) -> onnx.ModelProto:
    """The model with inputs of these shapes; ``document`` is changed."""
    shapes = {spec.inner: spec.shape for spec in inputs}
    for value in document.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if size:
                dim.dim_value = size
    for value in (*document.graph.output, *document.graph.value_info):
        _forget_free(value)
    _forget_negative(document.graph.input)
    return onnx.shape_inference.infer_shapes(document, data_prop=True)


def _forget_free(value: onnx.ValueInfoProto) -> None:
    """A free size may follow from what is fixed now; a name that it has would be kept."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_value <= 0:
            dim.Clear()


def _forget_negative(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Exporters write -1, of which inference would make sizes."""
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()
