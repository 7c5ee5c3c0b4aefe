from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgekit import compat
from edgekit import target as targets
from edgekit.budget import Budget
from edgekit.build import build
from edgekit.building.order import Order
from edgekit.compat import fingerprint
from edgekit.errors import ConversionError
from edgekit.model import Model, open_model
from edgekit.passes import fit_quantized
from edgekit.passes.qdq_onnx import to_qdq
from edgekit.passes.qoperator_onnx import to_qoperator
from edgekit.target import Target
from tests.lab.models import DIGITS, RESNET20, context, digits_order, onnx_model, outputs_of, samples, shared

PI, JETSON = targets.load("pi"), targets.load("jetson")
RNG = np.random.default_rng(0)
DIGIT = {"image": RNG.normal(size=(4, 1, 8, 8)).astype(np.float32)}


class Pictures(CalibrationDataReader):  # type: ignore[misc]  # of a package without types
    def __init__(self, name: str, *sizes: int) -> None:
        self._left = iter([{name: RNG.normal(size=(1, *sizes)).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self._left, None)


def quantized(source: Path, goal: Path, *sizes: int, **how: Any) -> Path:
    """By onnxruntime's quantizer, in operators of integers unless told otherwise."""
    name = onnx.load(source).graph.input[0].name
    given = {"quant_format": QuantFormat.QOperator, "weight_type": QuantType.QInt8, "per_channel": True, **how}
    logging.disable()
    quantize_static(str(source), str(goal), Pictures(name, *sizes), **given)
    logging.disable(logging.NOTSET)
    return goal


def digits(folder: Path, **how: Any) -> Path:
    return quantized(DIGITS / "digits.onnx", folder / "m.onnx", 1, 8, 8, **how)


def fitted(path: Path, target: Target) -> Model:
    (path.parent / "work").mkdir(exist_ok=True)
    given = context(path.parent / "work", "pi", digits_order())
    return fit_quantized.fit(open_model(path), replace(given, target=target))


def fitted_to(path: Path, target: Target, **sizes: tuple[int, ...]) -> Model:
    """With samples of these sizes."""
    data = samples(path.parent / "data.npz", **sizes)
    (path.parent / "work").mkdir(exist_ok=True)
    given = context(path.parent / "work", "pi", Order("app", "", data, data, path.parent, 1))
    return fit_quantized.fit(open_model(path), replace(given, target=target))


def pinned(versions: str) -> Target:
    """A profile of one's own: a Raspberry Pi with these releases of onnxruntime only."""
    engines = tuple(
        msgspec.structs.replace(each, version=versions) for each in PI.engines if each.name == "onnxruntime"
    )
    return msgspec.structs.replace(PI, engines=engines)


def types(document: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in document.graph.node)


def of_integers(document: onnx.ModelProto) -> set[str]:
    return {name for name in types(document) if name.startswith("QLinear") or name in ("QGemm", "ConvInteger")}


def integers(document: onnx.ModelProto, names: list[str], feeds: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What tensors within a graph hold, as it stands: nothing is fused."""
    shown = onnx.ModelProto()
    shown.CopyFrom(document)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds), strict=True))


class TestToQdq:
    @pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8], ids=str)
    @pytest.mark.parametrize("per_channel", [True, False])
    def test_tensorrt_gets_q_dq_nodes_with_the_same_integers(
        self, tmp_path: Path, activation: QuantType, per_channel: bool
    ) -> None:
        path = digits(tmp_path, activation_type=activation, per_channel=per_channel)
        source, result = onnx.load(path), fitted(path, JETSON)
        document = onnx.load(result.path)
        assert of_integers(source) == {"QLinearConv", "QGemm"}
        assert (of_integers(document), result.lineage, result.quantized) == (set(), ("qoperator-to-qdq",), True)
        assert [entry.domain for entry in document.opset_import] == [""]
        onnx.checker.check_model(document, full_check=True)
        names = [node.output[0] for node in source.graph.node if node.op_type != "DequantizeLinear"]
        feeds = {source.graph.input[0].name: DIGIT["image"]}
        before, after = (integers(each, names, feeds) for each in (source, document))
        for name in names:
            assert before[name].dtype == after[name].dtype
            assert np.abs(before[name].astype(int) - after[name].astype(int)).max() <= 1
            assert np.mean(before[name] != after[name]) < 0.001

    def test_a_model_of_q_dq_nodes_stays_the_file_that_it_is(self, tmp_path: Path) -> None:
        path = digits(tmp_path, quant_format=QuantFormat.QDQ)
        assert fitted(path, JETSON) == open_model(path)

    def test_the_cpu_takes_operators_of_integers_as_they_are(self, tmp_path: Path) -> None:
        path = digits(tmp_path)
        assert fitted(path, PI) == open_model(path)

    def test_dynamic_quantization_has_no_such_form(self, tmp_path: Path) -> None:
        logging.disable()
        quantize_dynamic(str(DIGITS / "digits.onnx"), str(tmp_path / "m.onnx"), weight_type=QuantType.QUInt8)
        logging.disable(logging.NOTSET)
        assert fitted(tmp_path / "m.onnx", JETSON) == open_model(tmp_path / "m.onnx")

    def test_an_older_operator_set_has_no_scale_per_channel_and_is_brought_up(self, tmp_path: Path) -> None:
        document = onnx.load(digits(tmp_path))
        document.opset_import[0].version = 12  # the nodes mean the same there
        onnx.save(document, tmp_path / "m.onnx")
        result = fitted(tmp_path / "m.onnx", JETSON)
        (entry,) = onnx.load(result.path).opset_import
        assert (entry.version, of_integers(onnx.load(result.path))) == (17, set())

    def test_one_that_gives_something_else_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def wrong(document: onnx.ModelProto) -> onnx.ModelProto:
            made = to_qdq(document)
            for tensor in made.graph.initializer:
                if tensor.name.endswith("bias_scale"):
                    tensor.CopyFrom(numpy_helper.from_array(9 * numpy_helper.to_array(tensor), tensor.name))
            return made

        monkeypatch.setattr(fit_quantized, "to_qdq", wrong)
        with pytest.raises(ConversionError, match=r"m.onnx: output .* is off by .*, more than a step \("):
            fitted(digits(tmp_path), JETSON)

    @pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8], ids=str)
    def test_a_real_model_within_one_step_of_its_output(self, tmp_path: Path, activation: QuantType) -> None:
        path = quantized(shared(RESNET20.model), tmp_path / "m.onnx", 3, 32, 32, activation_type=activation)
        document = onnx.load(path)
        made = to_qdq(document)
        feeds = {"image": RNG.normal(size=(16, 3, 32, 32)).astype(np.float32)}
        ((name, step),) = fit_quantized.output_steps(document).items()
        before, fused, plain = session(document, feeds)[name], session(made, feeds)[name], integers(made, [name], feeds)
        assert of_integers(made) == set()
        assert np.abs(before - fused).max() <= step * 1.001
        assert np.abs(before - plain[name]).max() <= 2 * step  # where nothing is fused, roundings add up


def shared_weights(path: Path) -> Path:
    """Two convolutions of the same weights with a scale per channel, only one of them between Q/DQ nodes.

    onnxruntime 1.16.3 copies the DequantizeLinear of the weights, forgets its axis, and fails when it runs.
    """
    rng = np.random.default_rng(1)
    weights = {
        **{name: WEIGHTS[name] for name in ("s", "z", "s_o", "z_o")},
        "k": rng.integers(-127, 127, (8, 4, 1, 1), np.int8),
        "s_w": np.linspace(0.01, 0.08, 8).astype(np.float32),
        "z_w": np.zeros(8, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "s", "z"], ["x_f"]),
        helper.make_node("DequantizeLinear", ["k", "s_w", "z_w"], ["k_f"], axis=0),
        helper.make_node("Conv", ["x_f", "k_f"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s_o", "z_o"], ["a_q"]),
        helper.make_node("DequantizeLinear", ["a_q", "s_o", "z_o"], ["whole"]),
        helper.make_node("Conv", ["x_f", "k_f"], ["half"], strides=[2, 2]),
    ]
    ends = {"x": ["N", 4, 8, 8]}, {"whole": ["N", 8, 8, 8], "half": ["N", 8, 4, 4]}
    return onnx_model(path, nodes, *ends, weights)


class TestToQoperator:
    def test_where_no_release_of_the_target_loads_q_dq_nodes_it_gets_operators_of_integers(
        self, tmp_path: Path
    ) -> None:
        path = shared_weights(tmp_path / "m.onnx")
        assert compat.within(fingerprint.read(path), "onnxruntime", ">=1.16,<1.17").answer == "refused"
        result = fitted_to(path, pinned(">=1.16,<1.17"), x=(4, 8, 8))
        assert result.lineage == ("qdq-to-qoperator",)
        assert of_integers(onnx.load(result.path)) == {"QLinearConv"}
        assert compat.within(fingerprint.read(result.path), "onnxruntime", ">=1.16,<1.17").answer == "loads"
        assert onnx.load(result.path).ir_version == PI.onnx.ir_version
        feeds = {"x": RNG.uniform(-3, 3, (2, 4, 8, 8)).astype(np.float32)}
        before, after = (outputs_of(each, feeds) for each in (open_model(path), result))
        assert before["whole"].tolist() == after["whole"].tolist()
        assert np.allclose(before["half"], after["half"], atol=1e-5)

    def test_where_some_release_loads_it_it_stays(self, tmp_path: Path) -> None:
        path = shared_weights(tmp_path / "m.onnx")
        assert fitted_to(path, pinned(">=1.16"), x=(4, 8, 8)) == open_model(path)
        assert fitted_to(path, PI, x=(4, 8, 8)) == open_model(path)

    def test_what_no_form_of_it_helps_stays_and_is_refused_by_those_who_ask(self, tmp_path: Path) -> None:
        document = onnx.load(shared_weights(tmp_path / "m.onnx"))
        document.ir_version = 12
        onnx.save(document, tmp_path / "m.onnx")
        target = msgspec.structs.replace(pinned(">=1.16,<1.17"), onnx=msgspec.structs.replace(PI.onnx, ir_version=12))
        assert fitted_to(tmp_path / "m.onnx", target, x=(4, 8, 8)).lineage == ()

    @pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8], ids=str)
    def test_there_and_back_is_the_same(self, tmp_path: Path, activation: QuantType) -> None:
        document = onnx.load(digits(tmp_path, activation_type=activation))
        back, feeds = to_qoperator(to_qdq(document), PI.onnx), {"image": DIGIT["image"]}
        assert types(back) == types(document)
        (want,), (got,) = (session(each, feeds).values() for each in (document, back))
        assert want.tolist() == got.tolist()


def test_a_float_model_and_another_format_are_none_of_its_business(tmp_path: Path) -> None:
    for path in (shared("resnet8_cifar10/resnet8_cifar10_int8.tflite"), DIGITS / "digits.onnx"):
        model = open_model(path)
        assert fit_quantized.fit(model, context(tmp_path, "jetson", digits_order())) == model


@pytest.mark.parametrize(("target", "passes"), [(JETSON, ["qoperator-to-qdq"]), (PI, [])], ids=["jetson", "pi"])
def test_a_build_ships_the_form_that_the_target_takes(tmp_path: Path, target: Target, passes: list[str]) -> None:
    outcome = build(open_model(digits(tmp_path)), target, digits_order(budget=Budget(min_agreement=None)), print)
    assert outcome.contents is not None
    document = onnx.load_model_from_string(outcome.contents.model)
    assert outcome.contents.manifest.provenance["passes"] == passes
    assert of_integers(document) == (set() if passes else {"QLinearConv", "QGemm"})


def session(document: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """What a model gives, as onnxruntime optimizes it."""
    made = ort.InferenceSession(document.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in made.get_outputs()], made.run(None, feeds), strict=True))


WEIGHTS = {
    "s": np.float32(0.05),
    "s_1": np.float32([0.05]),  # with an axis, as some write a scale of all
    "z": np.uint8(7),
    "s_w": np.float32([0.01, 0.02, 0.03, 0.04]),
    "z_w": np.zeros(4, np.int8),
    "s_o": np.float32(0.1),
    "z_o": np.uint8(120),
    "w": RNG.integers(-127, 127, (4, 4), np.int8),
    "k": RNG.integers(-127, 127, (4, 4, 1, 1), np.int8),
    "b": RNG.integers(-500, 500, 4, np.int32),
    "yes": np.array(True),
}
X, Y = ["q", "s", "z"], ["s_o", "z_o"]
ONE_BY_ONE = [
    ("QLinearMatMul", ["q", "s_1", "z", "w", "s_w", "z_w", *Y], {}),
    ("QGemm", [*X, "w", "s_w", "z_w", "b", *Y], {"alpha": 0.5, "transB": 1}),
    ("QGemm", [*X, "w", "s_w", "z_w", "b"], {}),
    ("QLinearAdd", [*X, *X, *Y], {}),
    ("QLinearMul", [*X, *X, *Y], {}),
    ("QLinearConcat", [*Y, *X, *X], {"axis": 1}),
    ("QLinearWhere", ["yes", *X, *X, *Y], {}),
    ("QLinearSigmoid", [*X, *Y], {}),
    ("QLinearLeakyRelu", [*X, *Y], {"alpha": 0.2}),
    ("QLinearSoftmax", [*X, *Y], {"axis": 1, "opset": 13}),
    ("QLinearConv", ["q", "s_1", "z", "k", "s_w", "z_w", *Y, "b"], {}),
    ("QLinearAveragePool", [*X, *Y], {"kernel_shape": [2, 2]}),
    ("QLinearGlobalAveragePool", [*X, *Y], {}),
    ("ConvInteger", ["q", "k", "z"], {}),
    ("MatMulInteger", ["q", "w", "z"], {}),
]
IMAGES = ("QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool", "ConvInteger")
STANDARD = ("QLinearMatMul", "QLinearConv", "ConvInteger", "MatMulInteger")


def alone(path: Path, op: str, inputs: list[str], attributes: dict[str, Any]) -> Path:
    """A model of one operator of integers, between a quantization and what makes floats of its result."""
    domain = "" if op in STANDARD else "com.microsoft"
    sums, plain = op.endswith("Integer"), op == "QGemm" and len(inputs) == 7
    last = helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT)
    if not sums:
        last = (
            helper.make_node("Identity", ["r"], ["y"])
            if plain
            else helper.make_node("DequantizeLinear", ["r", *Y], ["y"])
        )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node(op, inputs, ["r"], domain=domain, **attributes),
        last,
    ]
    sizes = [2, 4, 5, 5] if op in IMAGES else [2, 4]
    return onnx_model(path, nodes, {"x": sizes}, {"y": []}, WEIGHTS, opsets=[("", 17), ("com.microsoft", 1)])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), ONE_BY_ONE, ids=lambda each: each if isinstance(each, str) else ""
)
def test_each_operator_of_integers_means_its_q_dq_form(
    tmp_path: Path, op: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    document = onnx.load(alone(tmp_path / "m.onnx", op, inputs, attributes))
    document.graph.output[0].type.tensor_type.ClearField("shape")
    sizes = (2, 4, 5, 5) if op in IMAGES else (2, 4)
    made, feeds = to_qdq(document), {"x": RNG.uniform(-3, 3, sizes).astype(np.float32)}
    assert op not in types(made)
    assert "DequantizeLinear" in types(made)
    want, got = session(document, feeds)["y"], integers(made, ["y"], feeds)["y"]
    assert np.abs(want - got).max() <= (0.1 if "s_o" in inputs else 1e-3) * 1.001
    assert want.std() > 0
