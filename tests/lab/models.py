"""Models and samples for tests: real ones that others trained, the digits, and small ones made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit import target as targets
from edgekit.building.order import Order
from edgekit.data.dataset import open_source
from edgekit.model import Model
from edgekit.passes import Context
from edgekit.precision import Precision, Quantization
from edgekit.quantization import activations, calibration
from edgekit.quantization.calibration import Statistics
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.session import Session

SHARED = Path(__file__).parents[3] / "shared" / "models"
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
FLOAT = TensorProto.FLOAT
UNEVEN = ("/features1/conv/Conv", "/features2/conv/Conv")
"""The layers of the digits model between which ``uneven_digits`` has its large channel."""
SEEN: dict[tuple[str, ...], Statistics] = {}
"""What calibration samples showed within a model is observed once in a process."""


def shared(name: str) -> Path:
    """A file of the pretrained models that lie beside the checkout; the test is skipped without them."""
    if not (SHARED / name).exists():
        pytest.skip(f"needs the pretrained model {name} in {SHARED}")
    return SHARED / name


def tensorflow(test: Any) -> Any:
    """Marks a test that needs the extra [tensorflow]."""
    missing = [name for name in ("tensorflow", "keras", "tf_keras", "tf2onnx", "h5py") if find_spec(name) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"needs the extra [tensorflow]: no {', '.join(missing)}")
    return pytest.mark.tensorflow(skip(test))


def torch(test: Any) -> Any:
    """Marks a test that needs the extra [torch]."""
    missing = [name for name in ("torch", "litert_torch", "onnxscript", "safetensors") if find_spec(name) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"needs the extra [torch]: no {', '.join(missing)}")
    return pytest.mark.torch(skip(test))


def in_keras(code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code that uses Keras, in a process of its own, which would otherwise leave ``~/.keras`` in a home."""
    with tempfile.TemporaryDirectory() as home:
        command, env = [sys.executable, "-c", code, *map(str, words)], {**os.environ, "KERAS_HOME": home}
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@dataclass(frozen=True)
class Task:
    """A pretrained model with the data and the preprocessing that belong to it, and its published accuracy."""

    model: str
    accuracy: float
    data: Callable[[Path], tuple[str, str]]
    preprocess: dict[str, Preprocess] = field(default_factory=dict)

    def order(self, folder: Path, **changes: Any) -> Order:
        calibration, evaluation = self.data(folder)
        order = Order("app", "1", calibration, evaluation, folder, 1, preprocess=self.preprocess)
        return replace(order, **changes)


def arrays(name: str, x: str = "x", change: Callable[[Any], Any] = lambda x: x) -> Callable[[Path], tuple[str, str]]:
    """The splits of a shared .npz, as two files of the kind that edgekit reads."""

    def write(folder: Path) -> tuple[str, str]:
        with np.load(shared(f"data/{name}.npz")) as data:
            known = {row.tobytes() for row in data[f"calib_{x}"]}
            apart = [row.tobytes() not in known for row in data[f"test_{x}"]]  # some are in both splits
            for split, file, kept in (("calib", "calibration", slice(None)), ("test", "evaluation", apart)):
                np.savez(folder / f"{file}.npz", x=change(data[f"{split}_{x}"][kept]), labels=data[f"{split}_y"][kept])
        return "calibration.npz", "evaluation.npz"

    return write


def images(name: str) -> Callable[[Path], tuple[str, str]]:
    return lambda folder: (str(shared(f"data/{name}")), str(shared(f"data/{name}")))


CIFAR, RAW = arrays("cifar10"), arrays("cifar10", change=lambda x: x.astype(np.float32))
NORMAL = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="NCHW")
RESNET20 = Task("resnet20_cifar10/resnet20_cifar10.onnx", 0.824, CIFAR, {"image": NORMAL})
RESNET20_PT2 = replace(RESNET20, model="resnet20_cifar10/resnet20_cifar10.pt2", preprocess={"x": NORMAL})
RESNET8 = Task("resnet8_cifar10/resnet8_cifar10_float32.tflite", 0.762, RAW)
RESNET8_INT8 = Task(
    "resnet8_cifar10/resnet8_cifar10_int8.tflite",
    0.759,
    arrays("cifar10", change=lambda x: (x.astype(np.int16) - 128).astype(np.int8)),
)
RESNET8_KERAS = Task("resnet8_cifar10/resnet8_cifar10.keras", 0.762, RAW)
RESNET8_H5 = Task("resnet8_cifar10/resnet8_cifar10.h5", 0.762, RAW)
DSCNN_INT8 = Task("dscnn_kws/dscnn_kws_int8.tflite", 0.904, arrays("speech_commands_mfcc", "x_int8"))
UNIT = Preprocess(scale=1 / 255)
VWW = Task("mobilenetv1_025_vww/mobilenetv1_025_96_vww_float32.tflite", 0.850, images("vww96"), {"input_1": UNIT})
VWW_H5 = replace(VWW, model="mobilenetv1_025_vww/mobilenetv1_025_96_vww.h5")
IMAGENET_H5 = Task(
    "mobilenetv1_025_imagenet/mobilenetv1_025_224_imagenet.h5",
    0.5625,
    images("imagenet_samples"),
    {"input_2": Preprocess(crop=(224, 224), scale=1 / 127.5, mean=(1.0,))},
)
TEXTLINE = Task(
    "ppocr_textline_cls/ppocr_mobile_v2_textline_cls.onnx",
    0.9313,
    arrays("textline_orientation"),
    {"x": Preprocess(color="bgr", mean=(127.5,), std=(127.5,), layout="NCHW")},
)


def digits_order(base: Path = DIGITS, **changes: Any) -> Order:
    order = Order("digits", "1", str(DIGITS / "calibration.npz"), str(DIGITS / "evaluation.npz"), base, 1)
    return replace(order, **changes)


def uneven_digits(path: Path, factor: float = 1000.0) -> Path:
    """The digits model, saying the same, with one channel between two convolutions that many times as large.

    A scale for the whole tensor is then of no use for the other channels: int8 collapses unless both stay in float.
    """
    model = onnx.load(DIGITS / "digits.onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    before, after = nodes[UNEVEN[0]], nodes[UNEVEN[1]]
    for name, place, by in (
        (before.input[1], (0,), factor),
        (before.input[2], (0,), factor),
        (after.input[1], (slice(None), 0), 1 / factor),
    ):
        array = numpy_helper.to_array(weights[name]).copy()
        array[place] *= np.float32(by)
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


def context(
    work: Path, target: str, order: Order, quantization: Quantization = Quantization(Precision.INT8)
) -> Context:
    """What a pass is given."""

    def statistics(model: Model) -> Statistics:
        data = open_source(order.calibration, "calibration", order.base).digest
        key = (model.digest, data, repr(order.preprocess))
        if key not in SEEN:
            within = activations.of(model)
            SEEN[key] = calibration.observe(within.run(feeds) for feeds in made.feeds(model))
        return SEEN[key]

    made = Context(
        work,
        targets.load(target),
        lambda interface: order.dataset("calibration", interface),
        order.preprocess,
        statistics,
        quantization,
    )
    return made


def samples(path: Path, count: int = 32, labels: bool = True, **sizes: tuple[int, ...]) -> str:
    """An .npz of made-up float samples, by input name, with labels 0 and 1; its path."""
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {n: rng.random((count, *size), np.float32) for n, size in sizes.items()}
    np.savez(path, **made, **({"labels": np.arange(count) % 2} if labels else {}))  # type: ignore[arg-type]
    return str(path)


def onnx_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: dict[str, Sequence[Any]],
    weights: dict[str, NDArray[Any]] | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
    ir_version: int = 8,
) -> Path:
    """An ONNX file of float inputs and outputs. A name starting with ``int_`` is one of int64."""

    def kind(name: str) -> int:
        return int(TensorProto.INT64 if name.startswith("int_") else FLOAT)

    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind(name), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind(name), shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets])
    model.ir_version = ir_version
    onnx.save(model, path)
    return path


def dense(path: Path, **more: Any) -> Path:
    """An ONNX classifier: x [N, 8] → scores [N, 4]."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(8, 4)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["scores"])]
    return onnx_model(path, nodes, {"x": ["N", 8]}, {"scores": ["N", 4]}, weights, **more)


def two_by_two(path: Path) -> Path:
    """An ONNX model of two inputs and two outputs, in an order that is not the alphabet's: sum and product."""
    nodes = [
        helper.make_node("Add", ["right", "left"], ["sum"]),
        helper.make_node("Mul", ["right", "left"], ["product"]),
    ]
    return onnx_model(path, nodes, {"right": ["N", 4], "left": ["N", 4]}, {"sum": ["N", 4], "product": ["N", 4]})


def tflite_model(
    path: Path, signatures: Sequence[str] = ("serving_default",), kind: int = schema.TensorType.FLOAT32
) -> Path:
    """A TFLite file that gives the sum and the difference of two inputs of [1, 4]. Each signature calls the tensors
    ``first``, ``second``, ``the_sum`` and ``the_difference``; in the file they have other names.
    """
    graph = schema.SubGraphT()
    graph.name, graph.inputs, graph.outputs = b"main", [0, 1], [3, 2]
    graph.tensors = [_tensor(name, kind) for name in ("in:0", "in:1", "out:0", "out:1")]
    graph.operators = [_operator(index, [0, 1], [2 + index]) for index in (0, 1)]
    document = schema.ModelT()
    document.version, document.subgraphs, document.buffers = 3, [graph], [schema.BufferT()]
    document.operatorCodes = [_code(schema.BuiltinOperator.ADD), _code(schema.BuiltinOperator.SUB)]
    document.signatureDefs = [_signature(name) for name in signatures] or None
    builder = flatbuffers.Builder(1024)
    builder.Finish(document.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(name: str, kind: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), [1, 4], kind, 0
    return tensor


def _operator(code: int, inputs: list[int], outputs: list[int]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    options = (schema.AddOptionsT, schema.SubOptionsT)[code]()
    kinds = (schema.BuiltinOptions.AddOptions, schema.BuiltinOptions.SubOptions)
    operator.builtinOptionsType, operator.builtinOptions = kinds[code], options
    return operator


def _code(builtin: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, builtin, 1
    return code


def _signature(name: str) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = name.encode(), 0
    signature.inputs = [_map("second", 1), _map("first", 0)]
    signature.outputs = [_map("the_sum", 2), _map("the_difference", 3)]
    return signature


def _map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def outputs_of(model: Model, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What a model file gives, by the engine that serves its format; feeds and outputs by the names people know."""
    need = EngineNeed({"onnx": "onnxruntime", "tflite": "litert"}[model.format.value])
    with Session(model.path.read_bytes(), Interface(model.inputs, model.outputs), [need]) as session:
        return session.predict(feeds)
