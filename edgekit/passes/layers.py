"""Layers: what each one gives within a model, and the first one whose result a conversion has lost.

Converters rename, fuse and transpose, so results are found again by their values: a layer of the source is kept when
some tensor of the converted model holds the same numbers, in its layout or the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.formats import onnx_file
from edgekit.model import Format, Model

Array = NDArray[Any]
TOLERANCE = 1e-2
"""How far a kept result may be off, as a share of its span: further than an output, as no fault is that small."""


@dataclass(frozen=True)
class Layer:
    """What a layer gives for one input, and the names of the layers that it takes from."""

    name: str
    inputs: tuple[str, ...]
    value: Array


def first_lost(source: Sequence[Layer], kept: Iterable[Array]) -> Layer | None:
    """The first layer from which on nothing of the source is found in what a converted model holds.

    A layer that was fused with those behind it is not found itself, but one of those is. Both in order of execution.
    """
    found = _Values(kept)
    alive = set[str]()
    lost: Layer | None = None
    for layer in reversed(source):
        if layer.name in alive or layer.value in found:
            alive |= {layer.name, *layer.inputs}
        elif _tells(layer.value):
            lost = layer
    return lost


def trace(model: Model, inputs: Sequence[Array]) -> list[Layer]:
    """All layers of an ONNX or TFLite model, for inputs in its order."""
    return TRACERS[model.format](model, inputs)


def read_layers(path: Path) -> list[Layer]:
    """What ``references.write_layers`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        rows = zip(file["names"], file["inputs"], strict=True)
        return [Layer(str(name), tuple(str(fed).split("\n")), file[f"value.{i}"]) for i, (name, fed) in enumerate(rows)]


class _Values:
    """Arrays, to be asked for by their numbers."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._by_size: dict[int, list[Array]] = {}
        for array in arrays:
            self._by_size.setdefault(array.size, []).append(array.ravel())

    def __contains__(self, array: Array) -> bool:
        candidates = self._by_size.get(array.size, [])
        return _tells(array) and any(_near(each.ravel(), have) for each in _layouts(array) for have in candidates)


def _layouts(array: Array) -> list[Array]:
    """As it is, with its channels last, and with its channels first."""
    return [array, *([np.moveaxis(array, 1, -1), np.moveaxis(array, -1, 1)] if array.ndim > 2 else [])]


def _tells(array: Array) -> bool:
    """Whether it is not one number repeated, which is found everywhere."""
    return array.dtype.kind == "f" and bool(np.isfinite(array).all()) and array.size > 1 and float(np.ptp(array)) > 0


def _near(want: Array, have: Array) -> bool:
    return float(np.max(np.abs(want - have), initial=0.0)) <= TOLERANCE * float(np.ptp(want))


def _trace_onnx(model: Model, inputs: Sequence[Array]) -> list[Layer]:
    import onnxruntime as ort

    document = onnx_file.load(model.path)
    nodes = _computed(document.graph, {spec.inner for spec in model.inputs})
    outputs = [name for node in nodes for name in node.output if name]
    del document.graph.output[:]
    document.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(document.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {spec.inner: array for spec, array in zip(model.inputs, inputs, strict=True)}
    values = dict(zip(outputs, session.run(outputs, feeds), strict=True))
    return [Layer(name, tuple(node.input), values[name]) for node in nodes for name in node.output if name]


def _computed(graph: onnx.GraphProto, inputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that depend on the inputs; a graph names them in their order."""
    reached, nodes = set(inputs), []
    for node in graph.node:
        if not reached.isdisjoint(node.input):
            reached |= set(node.output)
            nodes.append(node)
    return nodes


def _trace_tflite(model: Model, inputs: Sequence[Array]) -> list[Layer]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # XNNPACK would keep what lies between its operations to itself.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        str(model.path), experimental_preserve_all_tensors=True, experimental_op_resolver_type=plain
    )
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    names = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
    return [
        Layer(names[index], tuple(names[i] for i in step["inputs"] if i in names), value)
        for step in interpreter._get_ops_details()
        for index in step["outputs"]
        if (value := _tensor(interpreter, index)) is not None
    ]


def _tensor(interpreter: Any, index: int) -> Array | None:
    try:
        value: Array = interpreter.get_tensor(index)
    except ValueError:  # one that a delegate holds, or that is of no type of numpy
        return None
    return value


TRACERS: dict[Format, Callable[[Model, Sequence[Array]], list[Layer]]] = {
    Format.ONNX: _trace_onnx,
    Format.TFLITE: _trace_tflite,
}
