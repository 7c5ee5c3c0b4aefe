"""The conversions that an engine still executes: by hand, and against the graph that onnxruntime wrote down."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import onnx
import onnxruntime as ort
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import BundleError
from edgekit.unfused import Node, Unfused, count, unfused
from tests.lab.bundles import contents, make_bundle
from tests.lab.islands import D, Q, around
from tests.lab.models import DSCNN_INT8, RESNET8, RESNET8_INT8, shared

ENDS = frozenset({"x", "y"})
BACK = (f"{Q}: d s > e", "QAdd: e > f")
KINDS = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT8}


def of(*steps: str) -> Unfused:
    """The count of a graph from x to y, each step as ``operator: inputs > outputs``."""
    nodes = []
    for step in steps:
        op, _, tensors = step.partition(": ")
        taken, _, given = tensors.partition(" > ")
        nodes.append(Node(op, tuple(taken.split()), tuple(given.split())))
    return count(nodes, ENDS, "engine")


class TestCount:
    @pytest.mark.parametrize(
        ("steps", "left"),
        [
            (["Conv: x w > y"], (0, 0, 0, 0)),
            ([f"{Q}: x s z > a", "QLinearConv: a w > b", f"{D}: b s z > y"], (0, 0, 0, 2)),
            (  # a head in float
                [f"{Q}: x s z > a", "QLinearConv: a w > b", f"{D}: b s z > c", "Softmax: c > y"],
                (0, 0, 0, 2),
            ),
            (  # a first layer in float
                ["Conv: x w > c", f"{Q}: c s z > a", "QLinearConv: a w > b", f"{D}: b s z > y"],
                (0, 0, 0, 2),
            ),
            (  # to float and back
                [f"{Q}: x s > a", "QConv: a > b", f"{D}: b s > c", "Div: c > d", *BACK, f"{D}: f s > y"],
                (1, 1, 0, 2),
            ),
            (  # nothing is fused at all
                [f"{Q}: x s > a", f"{D}: a s > b", "Conv: b w > c", f"{Q}: c s > d", f"{D}: d s > y"],
                (2, 2, 0, 0),
            ),
            (  # weights, at every call
                [f"{D}: w s > v", "MatMul: x v > y"],
                (0, 0, 1, 0),
            ),
            (  # the floats that go out are needed inside as well
                [f"{Q}: x s > a", "QConv: a > b", f"{D}: b s > y", "Div: y > d", *BACK, f"{D}: f s > z"],
                (1, 1, 0, 2),
            ),
            ([f"{Q}: x s > y"], (0, 0, 0, 1)),
            ([f"{D}: x s > y"], (0, 0, 0, 1)),
        ],
    )
    def test_what_is_left(self, steps: list[str], left: tuple[int, int, int, int]) -> None:
        found = of(*steps)
        assert (found.quantize, found.dequantize, found.constants, found.ends) == left
        assert found.pairs == max(left[:2])

    def test_what_is_between(self) -> None:
        found = of(
            f"{Q}: x s > a", f"{D}: a s > b", "Erf: b > c", "Neg: b > d", "Neg: c > e", "Add: d e > f", f"{Q}: f s > g"
        )
        assert found.between == {"Erf": 1, "Neg": 1}

    def test_from_one_scale_to_another(self) -> None:
        found = of("REQUANTIZE: x > a", "ADD: a > b", "REQUANTIZE: b > c", "ADD: c > d", "REQUANTIZE: d > y")
        assert (found.quantize, found.ends, found.pairs) == (1, 2, 1)

    @given(st.data())
    def test_every_conversion_is_counted_once(self, data: st.DataObject) -> None:
        nodes, tensors = list[Node](), ["x", "w"]
        for number in range(data.draw(st.integers(0, 12))):
            op = data.draw(st.sampled_from([Q, D, "REQUANTIZE", "Add"]))
            taken = data.draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2))
            tensors.append("y" if number == 11 else f"t{number}")
            nodes.append(Node(op, tuple(taken), (tensors[-1],)))
        found, ops = count(nodes, ENDS, ""), Counter(node.op for node in nodes)
        assert found.quantize + found.dequantize + found.constants + found.ends == ops.total() - ops["Add"]
        assert found.quantize <= ops[Q] + ops["REQUANTIZE"] and found.dequantize + found.constants <= ops[D]


class TestOnnx:
    def test_the_digits_leave_nothing(self, tmp_path: Path) -> None:
        found = unfused(make_bundle(tmp_path / "bundle"))
        assert found
        assert (found.pairs, found.constants, found.ends, found.between) == (0, 0, 2, {})
        assert found.engine.startswith(f"onnxruntime {ort.__version__} on ")

    def test_an_operator_that_onnxruntime_has_only_in_float(self, tmp_path: Path) -> None:
        """Erf of integers does not exist there; what it counts is all that onnxruntime says it executes."""
        model = around(tmp_path / "m.onnx", "Erf")
        found = unfused(make_bundle(tmp_path / "bundle", replace(contents(), model=model)))
        assert found
        assert (found.quantize, found.dequantize, found.between) == (1, 1, {"Erf": 1})
        executed = _executed(tmp_path, model)
        assert (executed[Q], executed[D]) == (2, 2)
        assert found.quantize + found.dequantize + found.constants + found.ends == executed[Q] + executed[D]

    def test_one_that_it_has_in_integers(self, tmp_path: Path) -> None:
        found = unfused(
            make_bundle(tmp_path / "bundle", replace(contents(), model=around(tmp_path / "m.onnx", "Sigmoid")))
        )
        assert found
        assert (found.pairs, found.ends) == (0, 2)

    def test_it_leaves_no_file_and_prints_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "temporary").mkdir()
        bundle = make_bundle(tmp_path / "bundle")
        bad = make_bundle(
            tmp_path / "bad",
            replace(contents(), model=contents().model.replace(b"QuantizeLinear", b"Quantize\xffinear")),
        )
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        unfused(bundle)
        with pytest.raises(BundleError):
            unfused(bad)
        assert list((tmp_path / "temporary").iterdir()) == []
        assert capfd.readouterr() == ("", "")

    def test_a_file_beside_it_is_refused(self, tmp_path: Path) -> None:
        model = onnx.load_from_string(contents().model)
        onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=0)
        bundle = make_bundle(tmp_path / "bundle", replace(contents(), model=model.SerializeToString()))
        with pytest.raises(BundleError, match="weights in other files"):
            unfused(bundle)


class TestTflite:
    @pytest.mark.parametrize(("task", "ends"), [(RESNET8, 0), (RESNET8_INT8, 0), (DSCNN_INT8, 0)])
    def test_the_models_of_others_leave_nothing(self, tmp_path: Path, task: Any, ends: int) -> None:
        model = shared(task.model).read_bytes()
        found = unfused(make_bundle(tmp_path / "bundle", replace(contents(), model=model), format="tflite"))
        assert found
        assert (found.pairs, found.constants, found.ends) == (0, 0, ends)
        assert found.engine.startswith("LiteRT ")

    @pytest.mark.parametrize(
        ("kinds", "left"),
        [
            ("fif", (0, 0, 2)),  # in, out
            ("ffiff", (0, 0, 2)),
            ("fififif", (2, 2, 2)),
            ("iifii", (1, 1, 0)),
            ("iif", (0, 0, 1)),
        ],
    )
    def test_a_chain(self, tmp_path: Path, kinds: str, left: tuple[int, int, int]) -> None:
        """Of tensors of these kinds; between two of one kind is a RELU, else a conversion with a RELU behind it."""
        model = _chain(kinds)
        found = unfused(make_bundle(tmp_path / "bundle", replace(contents(), model=model), format="tflite"))
        assert found
        assert (found.quantize, found.dequantize, found.ends) == left

    def test_half_precision_weights_are_unpacked_once(self, tmp_path: Path) -> None:
        model = _chain("ff", constant=True)
        found = unfused(make_bundle(tmp_path / "bundle", replace(contents(), model=model), format="tflite"))
        assert found
        assert (found.pairs, found.constants, found.ends) == (0, 0, 0)


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_bytes_that_are_no_model_are_one_line_with_the_folder(tmp_path: Path, form: str) -> None:
    bundle = make_bundle(tmp_path / form, replace(contents(), model=b"no model at all"), format=form)
    with pytest.raises(BundleError, match=f"{tmp_path / form}: its model cannot be read"):
        unfused(bundle)


def test_the_format_of_a_plug_in_is_not_counted(tmp_path: Path) -> None:
    assert unfused(make_bundle(tmp_path / "bundle", format="other")) is None


def _executed(folder: Path, model: bytes) -> Counter[str]:
    settings = ort.SessionOptions()
    settings.optimized_model_filepath = str(folder / "optimized.onnx")
    settings.log_severity_level = 3
    ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def _chain(kinds: str, constant: bool = False) -> bytes:
    """A TFLite file; with ``constant`` its first operator turns half precision weights into floats."""
    graph, codes = schema.SubGraphT(), ["RELU", "QUANTIZE", "DEQUANTIZE"]
    graph.tensors, graph.operators = [_tensor("x", KINDS[kinds[0]])], []
    for before, after in itertools.pairwise(kinds):
        ops = ["RELU"] if before == after else ["QUANTIZE" if after == "i" else "DEQUANTIZE", "RELU"]
        for op in ops:
            _append(graph, codes.index(op), KINDS[after])
    if constant:
        graph.tensors += [_tensor("w", schema.TensorType.FLOAT16, 1), _tensor("v", KINDS["f"])]
        graph.operators.insert(0, _operator(2, [len(graph.tensors) - 2], len(graph.tensors) - 1))
    graph.inputs, graph.outputs = [0], [graph.operators[-1].outputs[0]]
    if kinds[-1] != kinds[-2]:  # the last conversion stands at the end
        graph.outputs = graph.operators.pop().inputs
    document = schema.ModelT()
    document.version, document.subgraphs = 3, [graph]
    document.buffers = [schema.BufferT(), schema.BufferT()]
    document.buffers[1].data = list(bytes(8))
    document.operatorCodes = [_code(op) for op in codes]
    builder = flatbuffers.Builder(1024)
    builder.Finish(document.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _append(graph: Any, code: int, kind: int) -> None:
    graph.operators.append(_operator(code, [len(graph.tensors) - 1], len(graph.tensors)))
    graph.tensors.append(_tensor(f"t{len(graph.tensors)}", kind))


def _tensor(name: str, kind: int, buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), [1, 4], kind, buffer
    if kind == KINDS["i"]:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.1], [0]
    return tensor


def _operator(code: int, inputs: list[int], output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
    return operator


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), 1
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    return code
