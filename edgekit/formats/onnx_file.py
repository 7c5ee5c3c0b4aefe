"""Reading ONNX files: what they take and give, and whether they may be used at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgekit.errors import UnsupportedFormat
from edgekit.model import Format, Model, digest_of
from edgekit_runtime.tensors import DTYPES, TensorSpec

QUANTIZED_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm"}
)

FREE_WEIGHTS = 4
"""The first IR version whose weights need not be inputs."""


def read(path: Path) -> Model:
    """Raises: UnsupportedFormat."""
    graph = load(path).graph
    return Model(
        path,
        Format.ONNX,
        tuple(_spec(path, value) for value in graph.input),
        tuple(_spec(path, value) for value in graph.output),
        digest_of(path),
        quantized=is_quantized(graph),
    )


def is_quantized(graph: onnx.GraphProto) -> bool:
    """Whether any of its operators, ONNX's own or onnxruntime's, makes or takes quantized numbers."""
    return any(node.op_type in QUANTIZED_OPS or node.op_type.startswith("QLinear") for node in graph.node)


def load(path: Path) -> onnx.ModelProto:
    """The checked model with all its weights in memory, none of which is an input besides.

    Weights in files beside it are read, in files elsewhere refused (onnx >= 1.21 holds paths, links and hard links
    to the model's folder). Raises: UnsupportedFormat.
    """
    try:
        model = onnx.load(path)
        if not model.graph.node:
            raise UnsupportedFormat(f"{path}: an ONNX model without a single node", "export or copy it again")
        if any(_is_plugin(node) for node in nodes(model.graph)):
            _name_domains(model)
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise UnsupportedFormat(f"{path}: not an ONNX model, or cut short", "export or copy it again") from error
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise UnsupportedFormat(f"{path}: refused: {_line(error)}", _way_out(str(error))) from error
    _close_weights(model)
    return model


def _close_weights(model: onnx.ModelProto) -> None:
    """Up to IR version 3 weights had to be inputs, too, and exporters went on to write them so: nobody gives any."""
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    if len(inputs) < len(model.graph.input):
        model.graph.ClearField("input")
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, FREE_WEIGHTS)


def _name_domains(model: onnx.ModelProto) -> None:
    """TensorRT's plugins are written as operators of ONNX's own, which they are not: they get the domain TRT."""
    for node in nodes(model.graph):
        node.domain = "TRT" if _is_plugin(node) else node.domain
    if all(entry.domain != "TRT" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("TRT", 1))


def _is_plugin(node: onnx.NodeProto) -> bool:
    name: str | bytes = node.op_type  # bytes where it is no UTF-8
    return not node.domain and isinstance(name, str) and name.endswith("_TRT")


def _way_out(error: str) -> str:
    if "No Op registered" in error:
        return "write that node with ONNX's own operators, or export the model up to it"
    return "export it again, with its weights inside"


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model is written in; 1 where it names none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def drop_unused_opsets(model: onnx.ModelProto) -> None:
    """Converters and optimizers name operator sets of which no node is; an older runtime may not know those."""
    used = {node.domain for node in nodes(model.graph)}
    kept = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx") or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches and loops as well."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def _spec(path: Path, value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    known = kind.elem_type in onnx.TensorProto.DataType.values() and kind.elem_type != onnx.TensorProto.UNDEFINED
    name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if known else "none"
    if name not in DTYPES:
        raise UnsupportedFormat(f"{path}: {value.name} is of a type that edgekit does not serve ({name})")
    # A named size reads as 0, and exporters write 0 or -1 for one that is free.
    return TensorSpec(value.name, name, tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
