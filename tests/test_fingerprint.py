"""Fingerprints: what is read out of artifacts, against what engines and libraries say of the same files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, parser

from edgekit.compat import fingerprint, fingerprint_onnx
from edgekit.compat.fingerprint import SHARED_AXIS, UNKNOWN, Step, most_alive
from edgekit.errors import UnsupportedFormat
from edgekit.model import Format
from tests.lab import models


def parsed(body: str, opset: int = 17, inputs: str = "float[1,4] x", domains: str = "") -> onnx.ModelProto:
    imports = f'"": {opset}' + (f', "{domains}": 1' if domains else "")
    return parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> graph ({inputs}) => (y) {{ {body} }}")


def of(body: str, **more: object) -> fingerprint.Fingerprint:
    return fingerprint_onnx.of_model(parsed(body, **more))  # type: ignore[arg-type]


def test_an_operator_has_the_version_and_types_that_it_is_used_with(tmp_path: Path) -> None:
    found = fingerprint.read(models.dense(tmp_path / "m.onnx"))
    (gemm,) = found.operators
    assert (gemm.label, gemm.version, gemm.inputs, gemm.outputs) == ("Gemm", 13, ("float",) * 3, ("float",))
    assert (found.ir_version, found.opsets, found.external, found.custom) == (8, (("", 17),), False, ())


def test_memory_is_weights_and_what_lives_at_once(tmp_path: Path) -> None:
    memory = fingerprint.read(models.dense(tmp_path / "m.onnx")).memory
    assert memory is not None
    assert (memory.weights, memory.activations) == (4 * (8 * 4 + 4), 4 * (8 + 4))
    assert memory.peak == memory.weights + memory.activations


def test_free_sizes_other_than_the_first_leave_the_memory_open() -> None:
    assert of("y = Relu(x)", inputs="float[N,4] x").memory is not None
    assert of("y = Relu(x)", inputs="float[1,N] x").memory is None


def test_types_are_followed_through_contributed_operators() -> None:
    found = of("a = Cast<to=10>(x) b = com.microsoft.Gelu(a) y = Relu(b)", domains="com.microsoft")
    assert {(each.label, each.inputs) for each in found.operators} == {
        ("Cast", ("float",)),
        ("com.microsoft.Gelu", ("float16",)),
        ("Relu", ("float16",)),
    }


def test_operators_of_branches_count() -> None:
    first, second = "g1 () => (float[1,4] o) { o = Relu(x) }", "g2 () => (float[1,4] p) { p = Abs(x) }"
    body = f"b = Cast<to=9>(n) y = If(b)<then_branch = {first}, else_branch = {second}>"
    names = {each.name for each in of(body, inputs="float[1,4] x, float[1] n").operators}
    assert names == {"Cast", "If", "Relu", "Abs"}


def test_functions_that_a_model_brings_are_taken_apart() -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]> graph (float[1,4] x) => (y) { y = own.Twice(x) }
    <domain: "own", opset_import: ["": 17]> Twice (a) => (b) { b = Add(a, a) }"""
    found = fingerprint_onnx.of_model(parser.parse_model(text))
    assert [each.label for each in found.operators] == ["Add"] and not found.custom


def test_an_operator_that_has_a_definition_brings_its_parts() -> None:
    (swish,) = of("y = HardSwish(x)").operators
    assert {part.name for part in swish.body} == {"HardSigmoid", "Mul"}


def test_a_definition_written_for_another_operator_set_does_not_hold() -> None:
    assert [bool(of("y = LeakyRelu(x)", opset=opset).operators[0].body) for opset in (16, 26)] == [True, False]


def test_custom_operators_are_named_and_their_outputs_unknown() -> None:
    found = of("a = example.Thing(x) y = Relu(a)", domains="example")
    assert found.custom == ("example.Thing",)
    assert next(each for each in found.operators if each.name == "Relu").inputs == (UNKNOWN,)


def test_a_shared_dequantization_along_an_axis_is_marked() -> None:
    inputs = "int8[4] q, float[4] s, float[4] x"
    shared = of("a = DequantizeLinear<axis=0>(q, s) b = Add(x, a) y = Add(b, a)", inputs=inputs)
    single = of("a = DequantizeLinear<axis=0>(q, s) y = Add(x, a)", inputs=inputs)
    assert [any(SHARED_AXIS in each.traits for each in f.operators) for f in (shared, single)] == [True, False]


def test_external_data_is_seen_and_not_read(tmp_path: Path) -> None:
    path = models.dense(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    (tmp_path / "weights.bin").unlink()
    assert fingerprint.read(path).external


def test_packed_types_take_less_than_a_byte() -> None:
    weight = helper.make_tensor("w", TensorProto.INT4, [4, 4], [1] * 16)
    node = helper.make_node("DequantizeLinear", ["w", "x"], ["y"])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = fingerprint_onnx.of_model(model)
    assert found.operators[0].inputs == ("int4", "float") and found.memory is not None and found.memory.weights == 8


def test_a_tflite_file(tmp_path: Path) -> None:
    found = fingerprint.read(models.tflite_model(tmp_path / "m.tflite"))
    assert [(each.name, each.version, each.inputs) for each in found.operators] == [
        ("ADD", 1, ("float32", "float32")),
        ("SUB", 1, ("float32", "float32")),
    ]
    assert found.memory is not None and (found.memory.weights, found.memory.activations) == (0, 4 * 16)


@pytest.mark.parametrize("name", ["resnet8_cifar10_int8", "resnet8_cifar10_float32"])
def test_a_real_tflite_file_against_its_interpreter(name: str) -> None:
    path = models.shared(f"resnet8_cifar10/{name}.tflite")
    found, interpreter = fingerprint.read(path), Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    ops = {each["op_name"] for each in interpreter._get_ops_details()} - {"DELEGATE"}
    assert {each.name for each in found.operators} == ops
    kinds = {kind for each in found.operators for kind in each.inputs}
    assert ("qint8/channel" in kinds) is name.endswith("int8")
    assert found.min_runtime and found.memory is not None
    largest = max(
        int(np.prod(each["shape"])) * np.dtype(each["dtype"]).itemsize for each in interpreter.get_input_details()
    )
    assert largest < found.memory.activations < 10 * found.memory.weights
    assert found.memory.weights < path.stat().st_size


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"TFL3", b"\x10\0\0\0TFL3" + b"\xff" * 60])
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_rubbish_is_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(data)
    if suffix == ".onnx" and not data:
        assert fingerprint.read(path).operators == ()  # protobuf reads nothing as an empty model
        return
    with pytest.raises(UnsupportedFormat):
        fingerprint.read(path)


def test_a_blob_without_a_suffix_is_read_by_its_format(tmp_path: Path) -> None:
    models.dense(tmp_path / "m.onnx").rename(tmp_path / "0123")
    assert fingerprint.read(tmp_path / "0123", Format.ONNX).operators[0].name == "Gemm"


def test_a_damaged_version_is_no_crash() -> None:
    model = parsed("y = Relu(x)")
    model.opset_import[0].version = 2**40
    assert fingerprint_onnx.of_model(model).opsets == (("", 2**40),)


def test_other_formats_have_none(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"\.onnx or \.tflite"):
        fingerprint.read(tmp_path / "m.keras")


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_a_chain_needs_two_neighbours_and_both_ends(sizes: list[int]) -> None:
    names = [f"t{at}" for at in range(len(sizes))]
    steps = [Step([a], [b]) for a, b in pairwise(names)]
    ends = {names[0], names[-1]}
    got = most_alive(steps, dict(zip(names, sizes, strict=True)), ends)
    table = dict(zip(names, sizes, strict=True))
    alive = [sum(table[name] for name in ends | {*step.takes, *step.gives}) for step in steps]
    assert got == max(alive, default=sum(table[name] for name in ends))
