"""Activations: every float tensor within a model, computed sample by sample by the engine, nothing fused away."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.formats import onnx_file
from edgekit.model import Format, Model

Array = NDArray[Any]
Feeds = dict[str, Array]


class Activations(Protocol):
    """``run`` takes a model's own tensors with their batch axis; the result has the inputs and outputs too."""

    def run(self, feeds: Feeds) -> dict[str, Array]: ...


def of(model: Model) -> Activations:
    """Raises: UnsupportedFormat."""
    return OnnxActivations(onnx_file.load(model.path)) if model.format is Format.ONNX else TfliteActivations(model)


def stream(within: Activations, feeds: Iterable[Feeds]) -> Iterator[dict[str, Array]]:
    """What is in a model for one sample after the other; the next one is computed while one is looked at."""
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for feed in feeds:
            ahead, ready = pool.submit(within.run, feed), ahead
            if ready:
                yield ready.result()
        if ahead:
            yield ahead.result()


class OnnxActivations:
    """By onnxruntime, with its graph optimizations off and all that is computed made an output."""

    def __init__(self, document: onnx.ModelProto) -> None:
        import onnxruntime

        document = onnx.shape_inference.infer_shapes(document, strict_mode=False, data_prop=True)
        names = _float_tensors(document.graph)
        known = {value.name for value in document.graph.output}
        document.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = max(1, (os.cpu_count() or 1) - 1)  # one core is left to who looks at the values
        self._session = onnxruntime.InferenceSession(
            document.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [value.name for value in self._session.get_outputs() if value.type == "tensor(float)"]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        floats = {name: array for name, array in feeds.items() if array.dtype == np.float32}
        return {**floats, **dict(zip(self._names, self._session.run(self._names, feeds), strict=True))}


def _float_tensors(graph: onnx.GraphProto) -> Iterator[str]:
    """What nodes give, as far as it is not known to be of another type than float."""
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for node in graph.node:
        for name in node.output:
            if name and kinds.get(name) == onnx.TensorProto.FLOAT:
                yield name


class TfliteActivations:
    """By LiteRT's own kernels, without XNNPACK, which keeps its tensors to itself."""

    def __init__(self, model: Model) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=model.path.read_bytes(),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._places = {detail["name"]: detail["index"] for detail in self._interpreter.get_input_details()}
        self._allocate({})
        constant = self._constants()
        self._floats = {
            detail["name"]: detail["index"]
            for detail in self._interpreter.get_tensor_details()
            if detail["dtype"] is np.float32 and detail["index"] not in constant
        }

    def run(self, feeds: Feeds) -> dict[str, Array]:
        self._allocate(feeds)
        for name, array in feeds.items():
            self._interpreter.set_tensor(self._places[name], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._floats.items()}

    def _allocate(self, feeds: Feeds) -> None:
        for detail in self._interpreter.get_input_details():
            array = feeds.get(detail["name"])
            if array is not None and tuple(detail["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(detail["index"], array.shape)
        self._interpreter.allocate_tensors()

    def _constants(self) -> frozenset[int]:
        """Tensors that neither come in nor are computed: weights."""
        interpreter = self._interpreter
        computed = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
        given = {detail["index"] for detail in interpreter.get_input_details()}
        return frozenset(detail["index"] for detail in interpreter.get_tensor_details()) - computed - given
