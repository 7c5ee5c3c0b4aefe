from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.errors import ConversionError, DataError
from edgekit.model import Model, open_model
from edgekit.order import Order
from edgekit.passes import quantize_onnx
from tests.lab.models import (
    DIGITS,
    RESNET20,
    TEXTLINE,
    context,
    dense,
    digits_order,
    onnx_model,
    outputs_of,
    samples,
    shared,
    two_by_two,
)

FORMS = {"pi": ("uint8", False), "jetson": ("int8", True)}


@dataclass(frozen=True)
class Scale:
    """A QuantizeLinear or DequantizeLinear: what it is over, its zero points, its axis if it has one."""

    operator: str
    of: str
    dtype: str
    zeros: NDArray[Any]
    axis: int | None


def scales(model: Model) -> list[Scale]:
    graph = onnx.load(model.path).graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zeros = weights[node.input[2]]
            axis = next((each.i for each in node.attribute if each.name == "axis"), None)
            size = weights[node.input[0]].ndim if node.input[0] in weights else -1
            of = {-1: "activation", 0: "constant", 1: "bias"}.get(size, "weight")
            found.append(Scale(node.op_type, of, zeros.dtype.name, zeros, axis))
    return found


def quantized(folder: Path, target: str, source: Path, order: Order) -> Model:
    (folder / target).mkdir()
    return quantize_onnx.run(open_model(source), context(folder / target, target, order))


def digits(folder: Path, target: str) -> Model:
    return quantized(folder, target, DIGITS / "digits.onnx", digits_order())


def optimized(model: Model, folder: Path) -> Counter[str]:
    """The operators of the graph as onnxruntime runs it on this CPU."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("target", FORMS)
class TestForm:
    def test_activations_have_the_type_of_the_target(self, tmp_path: Path, target: str) -> None:
        dtype, symmetric = FORMS[target]
        activations = [scale for scale in scales(digits(tmp_path, target)) if scale.of == "activation"]
        assert {scale.operator for scale in activations} == {"QuantizeLinear", "DequantizeLinear"}
        assert {(scale.dtype, scale.axis) for scale in activations} == {(dtype, None)}
        assert any(scale.zeros != 0 for scale in activations) != symmetric

    def test_weights_are_int8_symmetric_with_a_scale_for_each_channel(self, tmp_path: Path, target: str) -> None:
        weights = [scale for scale in scales(digits(tmp_path, target)) if scale.of == "weight"]
        assert weights
        for scale in weights:
            assert (scale.operator, scale.dtype) == ("DequantizeLinear", "int8")
            assert scale.zeros.size > 1
            assert scale.axis is not None
            assert not scale.zeros.any()

    def test_it_is_valid_onnx_of_the_targets_versions_and_of_no_other_domain(self, tmp_path: Path, target: str) -> None:
        document = onnx.load(digits(tmp_path, target).path)
        onnx.checker.check_model(document, full_check=True)
        assert document.ir_version == 8
        assert [(each.domain, each.version) for each in document.opset_import] == [("", 17)]

    def test_the_ends_are_float_and_have_the_names_of_the_source(self, tmp_path: Path, target: str) -> None:
        model, source = digits(tmp_path, target), open_model(DIGITS / "digits.onnx")
        assert ([*map(str, model.inputs)], [*map(str, model.outputs)]) == (
            [*map(str, source.inputs)],
            [*map(str, source.outputs)],
        )
        assert model.quantized
        assert model.lineage == ("quantize-onnx",)
        assert model.size < source.size / 2

    def test_it_says_what_float_says(self, tmp_path: Path, target: str) -> None:
        model, source = digits(tmp_path, target), open_model(DIGITS / "digits.onnx")
        with np.load(DIGITS / "evaluation.npz") as data:
            answers = [
                outputs_of(each, {"image": data["x"]})["logits"].argmax(1) == data["labels"] for each in (model, source)
            ]
        assert answers[0].mean() >= answers[1].mean() - 0.01

    def test_resnet_20(self, tmp_path: Path, target: str) -> None:
        model = quantized(tmp_path, target, shared(RESNET20.model), RESNET20.order(tmp_path))
        self.check(model, target)

    @pytest.mark.slow
    def test_a_paddle_model_of_opset_11_and_free_sizes(self, tmp_path: Path, target: str) -> None:
        model = quantized(tmp_path, target, shared(TEXTLINE.model), TEXTLINE.order(tmp_path))
        self.check(model, target)
        assert [str(spec) for spec in model.inputs] == ["x: float32 [N, 3, N, N]"]

    def check(self, model: Model, target: str) -> None:
        dtype, symmetric = FORMS[target]
        found = scales(model)
        assert {scale.dtype for scale in found if scale.of == "activation"} == {dtype}
        assert all(not scale.zeros.any() for scale in found if symmetric or scale.of in ("weight", "bias"))
        assert all(scale.dtype == "int8" and scale.axis is not None for scale in found if scale.of == "weight")
        onnx.checker.check_model(onnx.load(model.path), full_check=True)


def test_a_cpu_fuses_the_form_of_the_pi_better_than_the_form_of_the_jetson(tmp_path: Path) -> None:
    left = {}
    for target in FORMS:
        model = quantized(tmp_path, target, shared(RESNET20.model), RESNET20.order(tmp_path))
        operators = optimized(model, tmp_path)
        left[target] = operators["QuantizeLinear"] + operators["DequantizeLinear"]
    assert left["pi"] < 10 < 50 < left["jetson"]


def test_a_jetson_keeps_in_float_what_is_not_quantized(tmp_path: Path) -> None:
    """TensorRT reads the scales around a node; a node between float tensors is one that it runs in float."""
    weights = {"w": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Exp", ["b"], ["y"]),
    ]
    source = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"y": ["N", 4]}, weights)
    data = samples(tmp_path / "d.npz", x=(8,))
    graph = onnx.load(quantized(tmp_path, "jetson", source, Order("app", "", data, data, tmp_path, 1)).path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    operators = [node.op_type for node in graph.node]
    assert {"MatMul", "Erf", "Exp"} <= set(operators)
    assert not any(name.startswith("QLinear") for name in operators)
    (exp,) = [node for node in graph.node if node.op_type == "Exp"]
    assert makers[exp.input[0]] == "Erf"


KERNEL = np.random.default_rng(1).normal(size=(6, 3, 3, 3)).astype(np.float32)
PICTURES: dict[str, Any] = {
    "a convolution": ([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"w": KERNEL}, 6),
    "a depthwise convolution": (
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, group=3)],
        {"w": KERNEL[:3, :1]},
        3,
    ),
    "a transposed convolution": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], pads=[1] * 4)],
        {"w": KERNEL.transpose(1, 0, 2, 3)},
        6,
    ),
    "a weight that two nodes share": (
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
            helper.make_node("Conv", ["a", "w"], ["y"], pads=[1] * 4),
        ],
        {"w": KERNEL[:3]},
        3,
    ),
    "a squeeze and excitation": (
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
            helper.make_node("GlobalAveragePool", ["a"], ["b"]),
            helper.make_node("HardSigmoid", ["b"], ["c"]),
            helper.make_node("Mul", ["a", "c"], ["y"]),
        ],
        {"w": KERNEL},
        6,
    ),
    "a resize and a concatenation": (
        [
            helper.make_node("Resize", ["x", "", "s"], ["a"]),
            helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            helper.make_node("Concat", ["b", "c"], ["y"], axis=1),
        ],
        {"w": KERNEL, "s": np.array([1, 1, 2, 2], np.float32)},
        9,
    ),
}


@pytest.mark.parametrize("target", FORMS)
@pytest.mark.parametrize("name", PICTURES)
def test_usual_layers_come_out_valid_and_close(tmp_path: Path, name: str, target: str) -> None:
    nodes, weights, channels = PICTURES[name]
    source = onnx_model(tmp_path / "m.onnx", nodes, {"x": ["N", 3, 6, 6]}, {"y": ["N", channels, 6, 6]}, weights)
    data = samples(tmp_path / "d.npz", x=(3, 6, 6))
    model = quantized(tmp_path, target, source, Order("app", "", data, data, tmp_path, 1))
    x = {"x": np.random.default_rng(5).random((1, 3, 6, 6), np.float32)}
    want, got = outputs_of(open_model(source), x)["y"], outputs_of(model, x)["y"]
    assert np.abs(want - got).max() < 0.1 * np.ptp(want)


def test_several_inputs_and_outputs_keep_names_and_order(tmp_path: Path) -> None:
    data = samples(tmp_path / "d.npz", left=(4,), right=(4,))
    model = quantized(tmp_path, "pi", two_by_two(tmp_path / "m.onnx"), Order("app", "", data, data, tmp_path, 1))
    assert ([spec.name for spec in model.inputs], [spec.name for spec in model.outputs]) == (
        ["right", "left"],
        ["sum", "product"],
    )


def test_an_operator_of_another_domain_stays_and_so_does_its_opset(tmp_path: Path) -> None:
    source = dense(tmp_path / "m.onnx", opsets=[("", 17), ("com.microsoft", 1), ("unused.domain", 3)])
    document = onnx.load(source)
    document.graph.node[0].output[0] = "a"
    document.graph.node.append(helper.make_node("Gelu", ["a"], ["scores"], domain="com.microsoft"))
    onnx.save(document, source)
    data = samples(tmp_path / "d.npz", x=(8,))
    model = quantized(tmp_path, "pi", source, Order("app", "", data, data, tmp_path, 1))
    opsets = {each.domain: each.version for each in onnx.load(model.path).opset_import}
    assert opsets == {"": 17, "com.microsoft": 1}
    assert outputs_of(model, {"x": np.zeros((1, 8), np.float32)})


def test_an_older_opset_is_lifted_to_one_that_has_a_scale_for_each_channel(tmp_path: Path) -> None:
    source = dense(tmp_path / "m.onnx", opsets=[("", 11)], ir_version=6)
    data = samples(tmp_path / "d.npz", x=(8,))
    document = onnx.load(quantized(tmp_path, "pi", source, Order("app", "", data, data, tmp_path, 1)).path)
    assert (document.opset_import[0].version, document.ir_version) == (17, 8)


class TestTrouble:
    def test_an_error_in_the_data_is_the_datas_not_the_quantizers(self, tmp_path: Path) -> None:
        data = samples(tmp_path / "d.npz", x=(9,))
        with pytest.raises(DataError, match="sample 0: input x"):
            quantized(tmp_path, "pi", dense(tmp_path / "m.onnx"), Order("app", "", data, data, tmp_path, 1))

    def test_what_the_quantizer_cannot_do_is_one_line(self, tmp_path: Path) -> None:
        node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="my.domain")
        source = onnx_model(
            tmp_path / "m.onnx", [node], {"x": [1, 8]}, {"y": [1, 8]}, opsets=[("", 17), ("my.domain", 1)]
        )
        data = samples(tmp_path / "d.npz", x=(8,))
        with pytest.raises(ConversionError, match=r"m.onnx: onnxruntime's quantizer failed: .* — build with") as caught:
            quantized(tmp_path, "pi", source, Order("app", "", data, data, tmp_path, 1))
        assert "\n" not in str(caught.value)

    def test_nothing_is_left_but_the_result_in_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        monkeypatch.setattr("tempfile.tempdir", None)
        digits(tmp_path, "pi")
        assert list((tmp_path / "temporary").iterdir()) == []


def test_the_same_model_and_data_give_the_same_bytes(tmp_path: Path) -> None:
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        models.append(digits(tmp_path / name, "pi"))
    assert models[0].digest == models[1].digest
    assert replace(models[0], path=models[1].path) == models[1]
