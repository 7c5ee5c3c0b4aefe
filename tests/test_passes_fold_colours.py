from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgekit import target
from edgekit.building.candidate import Candidate
from edgekit.building.order import Order
from edgekit.building.recipe import plan
from edgekit.building.workshop import Workshop
from edgekit.formats import tflite_file
from edgekit.model import Model, open_model
from edgekit.passes import all_passes, colours_tflite, fold_colours
from edgekit.passes.fold_colours import PRECISIONS
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import folding
from tests.lab.models import NORMAL, RESNET20, VWW, Task, context, onnx_model, outputs_of, shared

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (24, 12, 12, 3), np.uint8)
LAST = replace(NORMAL, layout="NHWC")
BUILTIN = schema.BuiltinOperator
CONV, DEPTHWISE = BUILTIN.CONV_2D, BUILTIN.DEPTHWISE_CONV_2D
Operator = tuple[int, str, str]
"""Kind, inputs and output of an operator of TFLite; names have one letter."""
Given = tuple[int, ...] | NDArray[Any]


def order(folder: Path, step: Any = NORMAL) -> Order:
    for name in ("calibration", "evaluation"):
        np.savez(folder / f"{name}.npz", x=PIXELS)
    return Order("app", "1", "calibration.npz", "evaluation.npz", folder, 1, preprocess={"x": step})


def fold(path: Path, step: Any = NORMAL, profile: str = "pi", told: list[str] | None = None) -> Model:
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    made = context(work, profile, order(path.parent, step))
    return fold_colours.run(open_model(path), replace(made, tell=(told if told is not None else []).append))


def differences(path: Path, folded: Model, step: Any = NORMAL) -> NDArray[Any]:
    """Between what a model gives for normalized pixels and what the folded one gives for evened ones."""
    even = folding.steps({"x": step}, folded.lineage)["x"]
    assert even != step
    before = outputs_of(open_model(path), {"x": step.apply(PIXELS[:1], "float32")})
    after = outputs_of(folded, {"x": even.apply(PIXELS[:1], "float32")})
    return np.abs(before["y"] - after["y"])


def convolution(kind: str = "plain", **more: Any) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    shapes = {"grouped": (6, 1, 3, 3), "rgba": (4, 4, 3, 3)}
    weights = {"w": RNG.normal(size=shapes.get(kind, (4, 3, 3, 3))).astype(np.float32)}
    weights |= {} if kind == "no bias" else {"b": RNG.normal(size=len(weights["w"])).astype(np.float32)}
    return [helper.make_node("Conv", ["x", *weights], ["y"], group=3 if kind == "grouped" else 1, **more)], weights


def written(path: Path, nodes: list[NodeProto], weights: dict[str, NDArray[Any]], last: bool = False) -> Path:
    sizes = ["N", 12, 12, 3] if last else ["N", 3, 12, 12]
    return onnx_model(path / "m.onnx", nodes, {"x": sizes}, {"y": [None] * 4}, weights)


class TestOnnx:
    @pytest.mark.parametrize("kind", ["plain", "no bias", "grouped"])
    def test_without_padding_nothing_is_lost(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path, *convolution(kind))
        folded = fold(path)
        assert folded.lineage == (folding.COLOURS,)
        assert differences(path, folded).max() < 1e-4
        weights = {tensor.name for tensor in onnx.load(folded.path).graph.initializer}
        assert weights == {"y_weights", "y_bias"}

    def test_colours_may_come_last_and_be_bgr(self, tmp_path: Path) -> None:
        nodes, weights = convolution()
        nodes[0].input[0] = "t"
        turned = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
        path = written(tmp_path, [turned, *nodes], weights, last=True)
        step = replace(LAST, color="bgr")
        assert differences(path, fold(path, step), step).max() < 1e-4

    @pytest.mark.parametrize("own", [True, False], ids=["of its own", "before it"])
    def test_padding_misses_a_little_at_the_border_only(
        self, tmp_path: Path, own: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fold_colours, "ENOUGH_DB", 10.0)  # of so small an image there is much border
        pads = [1, 1, 1, 1]
        nodes, weights = convolution(pads=pads) if own else convolution()
        if not own:
            nodes[0].input[0] = "p"
            weights["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
            nodes.insert(0, helper.make_node("Pad", ["x", "pads"], ["p"]))
        path = written(tmp_path, nodes, weights)
        found = differences(path, fold(path))
        assert found[..., 1:-1, 1:-1].max() < 1e-4 < found.max() < 1.5

    def test_what_it_would_harm_stays_and_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fold_colours, "ENOUGH_DB", 60.0)
        path, told = written(tmp_path, *convolution(pads=[1, 1, 1, 1])), list[str]()
        assert fold(path, told=told) == open_model(path)
        assert len(told) == 1
        assert told[0].startswith("m.onnx: normalization stays with the device: in the weights it leaves ")

    def test_what_is_no_convolution_of_the_colours_keeps_them(self, tmp_path: Path) -> None:
        nodes, weights = convolution()
        others = [helper.make_node("Relu", ["x"], ["z"]), *nodes]
        computed = [helper.make_node("Abs", ["b"], ["c"]), helper.make_node("Conv", ["x", "w", "c"], ["y"])]
        for number, (each, step) in enumerate([(others, NORMAL), (computed, NORMAL), (nodes, LAST)]):
            (tmp_path / str(number)).mkdir()
            path = written(tmp_path / str(number), each, weights)
            assert fold(path, step) == open_model(path)

    def test_names_and_weights_of_others_are_not_touched(self, tmp_path: Path) -> None:
        nodes, weights = convolution()
        again = helper.make_node("Conv", ["x", "w", "b"], ["y_bias"])
        both = helper.make_node("Add", ["n", "y_bias"], ["y"])
        nodes[0].output[0] = "n"
        also = helper.make_node("Identity", ["w"], ["n_weights"])
        path = written(tmp_path, [*nodes, again, both, also], weights)
        assert differences(path, fold(path)).max() < 1e-4

    def test_tensorrt_takes_no_pixels(self, tmp_path: Path) -> None:
        path = written(tmp_path, *convolution())
        assert fold(path, profile="jetson") == open_model(path)
        assert fold(path, replace(NORMAL, mean=(0.4,), std=(0.2,))) == open_model(path)


def tflite(path: Path, operators: Sequence[Operator], tensors: dict[str, Given]) -> Path:
    """A TFLite file from x to y; constants are given, tensors that are computed have a shape only."""
    document, graph, kinds = schema.ModelT(), schema.SubGraphT(), list(dict.fromkeys(each[0] for each in operators))
    names = list(tensors)
    document.version, document.subgraphs, document.buffers = 3, [graph], [schema.BufferT()]
    document.operatorCodes = []
    for kind in kinds:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        document.operatorCodes.append(code)
    graph.inputs, graph.outputs = [names.index("x")], [names.index("y")]
    graph.tensors = [_tensor(document, name, given) for name, given in tensors.items()]
    graph.operators = [_operator(kinds.index(kind), kind, inputs, output, names) for kind, inputs, output in operators]
    path.write_bytes(tflite_file.packed(document))
    return path


def _tensor(document: Any, name: str, given: Given) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name.encode(), schema.TensorType.FLOAT32, 0
    tensor.shape = list(given.shape if isinstance(given, np.ndarray) else given)
    if isinstance(given, np.ndarray):
        buffer = schema.BufferT()
        buffer.data, tensor.buffer = np.frombuffer(given.tobytes(), np.uint8), len(document.buffers)
        tensor.type = schema.TensorType.INT32 if given.dtype == np.int32 else schema.TensorType.FLOAT32
        document.buffers.append(buffer)
    return tensor


def _operator(code: int, kind: int, inputs: str, output: str, names: list[str]) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = (
        code,
        [names.index(n) for n in inputs],
        [names.index(output)],
    )
    made = {
        CONV: (schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT),
        DEPTHWISE: (schema.BuiltinOptions.DepthwiseConv2DOptions, schema.DepthwiseConv2DOptionsT),
    }
    if kind in made:
        operator.builtinOptionsType, operator.builtinOptions = made[kind][0], made[kind][1]()
        options = operator.builtinOptions
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        options.dilationHFactor = options.dilationWFactor = 1
        if kind == DEPTHWISE:
            options.depthMultiplier = 2
    return operator


class TestTflite:
    def test_a_convolution_takes_them_up(self, tmp_path: Path) -> None:
        w, b = (RNG.normal(size=size).astype(np.float32) for size in ((4, 3, 3, 3), (4,)))
        tensors = {"x": (1, 12, 12, 3), "w": w, "b": b, "y": (1, 10, 10, 4)}
        path = tflite(tmp_path / "m.tflite", [(CONV, "xwb", "y")], tensors)
        assert differences(path, fold(path, LAST), LAST).max() < 1e-4

    def test_so_do_a_depthwise_and_one_after_a_transposition_and_padding(self, tmp_path: Path) -> None:
        w, b = (RNG.normal(size=size).astype(np.float32) for size in ((1, 3, 3, 6), (6,)))
        order, none = np.array([0, 2, 3, 1], np.int32), np.zeros((4, 2), np.int32)
        tensors = {"x": (1, 3, 12, 12), "o": order, "t": (1, 12, 12, 3), "n": none, "p": (1, 12, 12, 3)}
        tensors |= {"w": w, "b": b, "y": (1, 10, 10, 6)}
        operators = [(BUILTIN.TRANSPOSE, "xo", "t"), (BUILTIN.PAD, "tn", "p"), (DEPTHWISE, "pwb", "y")]
        path = tflite(tmp_path / "m.tflite", operators, tensors)
        assert differences(path, fold(path)).max() < 1e-4
        assert fold(path, LAST) == open_model(path)

    def test_nothing_else_does(self, tmp_path: Path) -> None:
        path = tflite(tmp_path / "m.tflite", [(BUILTIN.RELU, "x", "y")], {"x": (1, 12, 12, 3), "y": (1, 12, 12, 3)})
        assert fold(path, LAST) == open_model(path)


def made(task: Task, folder: Path, precision: Precision) -> tuple[Workshop, Candidate]:
    source, pi = open_model(shared(task.model)), target.load("pi")
    (recipe,) = [each for each in plan(source, pi, (precision,), all_passes()) if each.precision is precision]
    (folder / precision.value).mkdir()
    workshop = Workshop(pi, task.order(folder), folder / precision.value)
    return workshop, workshop.variant(source, recipe, Quantization(precision, Calibrator.MSE))


def answers(workshop: Workshop, candidate: Candidate) -> tuple[NDArray[Any], NDArray[Any]]:
    """What it says of the evaluation data, and what is right."""
    samples = list(workshop.samples("evaluation", candidate.interface))
    with workshop.session(candidate) as session:
        said = [int(next(iter(session.predict(sample.inputs).values())).argmax()) for sample in samples]
    return np.array(said), np.array([sample.label for sample in samples])


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT16X8, Precision.FLOAT16])
def test_a_real_model_takes_pixels_where_it_has_8_bits(tmp_path: Path, precision: Precision) -> None:
    workshop, candidate = made(RESNET20, tmp_path, precision)
    folded = precision in PRECISIONS
    assert (folding.COLOURS in candidate.model.lineage, candidate.model.inputs[0].dtype == "uint8") == (folded, folded)
    assert (candidate.preprocess["image"] == NORMAL) != folded
    said, right = answers(workshop, candidate)
    assert np.mean(said == right) > RESNET20.accuracy - 0.01


@pytest.mark.slow
def test_so_does_one_of_tflite(tmp_path: Path) -> None:
    """Made of one of x/255, whose first layer does what undoes the normalization."""
    path, undo = tmp_path / "m.tflite", folding.Rest(np.array(NORMAL.std), np.array(NORMAL.mean))
    (spec,) = open_model(shared(VWW.model)).inputs
    assert colours_tflite.write(shared(VWW.model), path, {spec.inner: (3, undo)})
    task = replace(VWW, model=str(path), preprocess={spec.name: LAST})
    whole, candidate = (made(task, tmp_path, each) for each in (Precision.FLOAT32, Precision.INT8))
    assert candidate[1].model.inputs[0].dtype == "int8"
    assert np.mean(answers(*whole)[0] == answers(*candidate)[0]) > 0.95
