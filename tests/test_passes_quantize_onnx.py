from __future__ import annotations

import subprocess
import sys
import tempfile
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

from edgekit.building.order import Order
from edgekit.errors import ConversionError, DataError
from edgekit.model import Model, open_model
from edgekit.passes import clean_onnx, quantize_onnx
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit.quantization import folding
from edgekit_runtime.engines.ort import KEEP_FLOAT
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.models import (
    DIGITS,
    RESNET20,
    TEXTLINE,
    Task,
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


def quantized(
    folder: Path, target: str, source: Path, order: Order, how: Quantization = Quantization(Precision.INT8)
) -> Model:
    """As a recipe does it: what has to be done before, then the quantizer."""
    work = Path(tempfile.mkdtemp(dir=folder))
    ready = clean_onnx.run(open_model(source), context(work, target, order))
    return quantize_onnx.run(ready, context(work, target, order, how))


def digits(folder: Path, target: str) -> Model:
    return quantized(folder, target, DIGITS / "digits.onnx", digits_order())


def layers(source: Path, folder: Path) -> list[str]:
    """Those that may be kept in float."""
    ready = clean_onnx.run(open_model(source), context(folder, "pi", digits_order()))
    return list(quantize_onnx.quantize.layers(ready))


def answers(task: Task, folder: Path, *models: Model) -> list[NDArray[Any]]:
    """What models say of the first samples of a task, preprocessed for each as it wants them."""
    _, evaluation = task.data(folder)
    with np.load(folder / evaluation) as data:
        x = data["x"][:300]
    found = []
    for model in models:
        interface = Interface(model.inputs, model.outputs, folding.left(task.preprocess, model.inputs))
        with Session(model.path.read_bytes(), interface, [EngineNeed("onnxruntime")]) as session:
            found.append(next(iter(session.predict({model.inputs[0].name: x}).values())).argmax(1))
    return found


def optimized(model: Model, folder: Path) -> Counter[str]:
    """The operators of the graph as onnxruntime runs it on this CPU, in the way that a session does."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(
        model.path.read_bytes(), options, providers=["CPUExecutionProvider"], disabled_optimizers=KEEP_FLOAT
    )
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
        assert model.lineage == ("clean-onnx", "quantize-onnx")
        assert model.size < source.size / 2

    def test_it_says_what_float_says(self, tmp_path: Path, target: str) -> None:
        model, source = digits(tmp_path, target), open_model(DIGITS / "digits.onnx")
        with np.load(DIGITS / "evaluation.npz") as data:
            answers = [
                outputs_of(each, {"image": data["x"]})["logits"].argmax(1) == data["labels"] for each in (model, source)
            ]
        assert answers[0].mean() >= answers[1].mean() - 0.01

    @pytest.mark.slow
    def test_resnet_20(self, tmp_path: Path, target: str) -> None:
        model = quantized(tmp_path, target, shared(RESNET20.model), RESNET20.order(tmp_path))
        self.check(model, target)

    @pytest.mark.slow
    def test_a_paddle_model_of_opset_11_and_free_sizes(self, tmp_path: Path, target: str) -> None:
        model = quantized(tmp_path, target, shared(TEXTLINE.model), TEXTLINE.order(tmp_path))
        self.check(model, target)
        kind = {"pi": "uint8", "jetson": "float32"}[target]
        assert [str(spec) for spec in model.inputs] == [f"x: {kind} [N, 3, N, N]"]
        source, answer = answers(TEXTLINE, tmp_path, open_model(shared(TEXTLINE.model)), model)
        assert (source == answer).mean() > 0.9

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


PRECISIONS = [  # the size, as a share of float's, and the agreement with float are what was measured, with a margin
    (Precision.INT8, 0.32, 0.95),
    (Precision.INT16X8, 0.33, 0.97),
    (Precision.DYNAMIC, 1.0, 0.97),
    (Precision.WEIGHTS, 0.29, 0.97),
    (Precision.FLOAT16, 0.52, 0.98),
]


def resnet(folder: Path, precision: Precision, target: str = "pi", **how: Any) -> Model:
    quantization = Quantization(precision, **how)
    return quantized(folder, target, shared(RESNET20.model), RESNET20.order(folder), quantization)


class TestPrecision:
    @pytest.mark.parametrize(("precision", "size", "agreement"), PRECISIONS, ids=lambda each: str(each))
    def test_each_says_what_float_says_and_is_smaller(
        self, tmp_path: Path, precision: Precision, size: float, agreement: float
    ) -> None:
        source, model = open_model(shared(RESNET20.model)), resnet(tmp_path, precision)
        want, got = answers(RESNET20, tmp_path, source, model)
        assert (want == got).mean() >= agreement
        assert model.size < size * source.size
        assert [*map(str, model.inputs), *map(str, model.outputs)] == [
            *map(str, source.inputs),
            *map(str, source.outputs),
        ]
        onnx.checker.check_model(onnx.load(model.path), full_check=True)

    def test_int16_activations_with_int8_weights(self, tmp_path: Path) -> None:
        model = resnet(tmp_path, Precision.INT16X8)
        found = scales(model)
        assert {scale.dtype for scale in found if scale.of == "activation"} == {"int16"}
        assert {scale.dtype for scale in found if scale.of == "weight"} == {"int8"}
        assert not any(scale.zeros.any() for scale in found)
        assert {each.domain for each in onnx.load(model.path).opset_import} == {"", "com.microsoft"}

    def test_from_opset_21_on_int16_needs_no_other_domain(self, tmp_path: Path) -> None:
        """A target of one's own, since the shipped ones have engines that are older."""
        path = dense(tmp_path / "m.onnx", opsets=[("", 21)], ir_version=10)
        data = samples(tmp_path / "d.npz", x=(8,))
        order = Order("app", "", data, data, tmp_path, 1)
        model = quantized(tmp_path, "pi", path, order, Quantization(Precision.INT16X8))
        assert {each.domain for each in onnx.load(model.path).opset_import} == {""}
        assert outputs_of(model, {"x": np.zeros((1, 8), np.float32)})

    def test_weights_alone_are_stored_as_int8_and_everything_is_computed_in_float(self, tmp_path: Path) -> None:
        model = resnet(tmp_path, Precision.WEIGHTS)
        operators = Counter(node.op_type for node in onnx.load(model.path).graph.node)
        assert operators["DequantizeLinear"] == operators["Conv"] - 1  # the first has too few weights to pay
        assert operators["QuantizeLinear"] == 0
        assert not any(name.startswith("QLinear") or "Integer" in name for name in optimized(model, tmp_path))

    def test_dynamic_quantizes_what_multiplies_matrices(self, tmp_path: Path) -> None:
        operators = Counter(node.op_type for node in onnx.load(resnet(tmp_path, Precision.DYNAMIC).path).graph.node)
        assert (operators["MatMulInteger"], operators["DynamicQuantizeLinear"], operators["ConvInteger"]) == (1, 1, 0)

    def test_half_precision_has_float_ends_and_no_float_weights(self, tmp_path: Path) -> None:
        model = resnet(tmp_path, Precision.FLOAT16)
        large = [each for each in onnx.load(model.path).graph.initializer if np.prod(each.dims) > 100]
        assert {each.data_type for each in large} == {onnx.TensorProto.FLOAT16}
        assert [spec.dtype for spec in (*model.inputs, *model.outputs)] == ["float32", "float32"]

    def test_a_jetson_takes_no_dynamic_int8(self, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="TensorRT computes no dynamic int8 — build with --precision int8"):
            resnet(tmp_path, Precision.DYNAMIC, "jetson")

    @pytest.mark.parametrize(
        ("precision", "told"),
        [(Precision.DYNAMIC, "has no layer for dynamic int8"), (Precision.WEIGHTS, "has no large weights")],
    )
    def test_where_there_is_nothing_to_quantize_it_says_so(
        self, tmp_path: Path, precision: Precision, told: str
    ) -> None:
        data = samples(tmp_path / "d.npz", left=(4,), right=(4,))
        order = Order("app", "", data, data, tmp_path, 1)
        with pytest.raises(ConversionError, match=told):
            quantized(tmp_path, "pi", two_by_two(tmp_path / "m.onnx"), order, Quantization(precision))

    @pytest.mark.slow
    @pytest.mark.parametrize("calibrator", Calibrator)
    @pytest.mark.parametrize("target", FORMS)
    def test_every_calibrator_makes_a_model_that_says_what_float_says(
        self, tmp_path: Path, calibrator: Calibrator, target: str
    ) -> None:
        model = resnet(tmp_path, Precision.INT8, target, calibrator=calibrator)
        want, got = answers(RESNET20, tmp_path, open_model(shared(RESNET20.model)), model)
        assert (want == got).mean() > 0.95
        assert not any(scale.zeros.any() for scale in scales(model) if FORMS[target][1])


class TestFloatLayers:
    KEPT = ("/conv1/Conv", "/layer2/layer2.0/conv1/Conv")

    @pytest.mark.parametrize("target", FORMS)
    def test_they_stay_float_and_all_others_do_not(self, tmp_path: Path, target: str) -> None:
        whole, model = (
            resnet(tmp_path, Precision.MIXED, target, float_layers=frozenset(kept)) for kept in ((), self.KEPT)
        )
        graph = onnx.load(model.path).graph
        floats = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        assert {node.name for node in convolutions if node.input[1] in floats} == set(self.KEPT)
        assert len(convolutions) == 19
        assert model.size > whole.size

    def test_a_cpu_runs_just_these_in_float(self, tmp_path: Path) -> None:
        """The second one has quantized neighbours on both sides: onnxruntime left alone would quantize it as well."""
        found = optimized(resnet(tmp_path, Precision.MIXED, float_layers=frozenset(self.KEPT)), tmp_path)
        assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (17, 2)

    def test_a_session_computes_what_is_written_and_onnxruntime_left_alone_does_not(self, tmp_path: Path) -> None:
        source = shared(RESNET20.model)
        kept = frozenset(layers(source, tmp_path)[3::2])
        model = resnet(tmp_path, Precision.MIXED, float_layers=kept)
        x = {"image": np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32)}
        plain, alone = ort.SessionOptions(), ort.SessionOptions()
        plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        want, other = (
            ort.InferenceSession(model.path.read_bytes(), each, providers=["CPUExecutionProvider"]).run(None, x)[0]
            for each in (plain, alone)
        )
        got = outputs_of(model, x)["logits"]
        assert np.square(want - got).mean() < np.square(want - other).mean() / 4

    def test_all_that_may_be_kept_leave_nothing_in_integers(self, tmp_path: Path) -> None:
        every = frozenset(layers(shared(RESNET20.model), tmp_path))
        model = resnet(tmp_path, Precision.MIXED, float_layers=every)
        found = optimized(model, tmp_path)
        assert not any(name.startswith("QLinear") for name in found)
        want, got = answers(RESNET20, tmp_path, open_model(shared(RESNET20.model)), model)
        assert (want == got).mean() > 0.98

    @pytest.mark.slow
    def test_nodes_without_names_are_called_by_their_outputs(self, tmp_path: Path) -> None:
        document = onnx.load(shared(RESNET20.model))
        for node in document.graph.node:
            node.ClearField("name")
        onnx.save(document, tmp_path / "nameless.onnx")
        names = layers(tmp_path / "nameless.onnx", tmp_path)
        assert len(set(names)) == len(names) == 30
        kept = Quantization(Precision.MIXED, float_layers=frozenset(names[:1]))
        model = quantized(tmp_path, "pi", tmp_path / "nameless.onnx", RESNET20.order(tmp_path), kept)
        found = optimized(model, tmp_path)
        assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (18, 1)


BATCHES = """
import numpy as np
def samples():
    rng = np.random.default_rng(0)
    for size in (8, 8, 3):
        yield {"x": rng.normal(size=(size, 8)).astype(np.float32)}
"""


@pytest.mark.parametrize("calibrator", Calibrator)
def test_batches_of_several_sizes_calibrate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibrator: Calibrator
) -> None:
    """onnxruntime's own percentile and entropy calibration fails where the last batch is smaller."""
    (tmp_path / "in_batches.py").write_text(BATCHES)
    monkeypatch.syspath_prepend(str(tmp_path))
    order = Order("app", "", "in_batches:samples", "in_batches:samples", tmp_path, 1)
    source = dense(tmp_path / "m.onnx")
    model = quantized(tmp_path, "pi", source, order, Quantization(Precision.INT8, calibrator))
    x = {"x": np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)}
    want, got = outputs_of(open_model(source), x)["scores"], outputs_of(model, x)["scores"]
    assert np.abs(want - got).max() < 0.05 * np.ptp(want)


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

    def test_what_the_libraries_say_for_developers_is_not_heard(self, tmp_path: Path) -> None:
        """By a program of its own, as the test runner listens to all that is logged."""
        code = (
            "import logging, pathlib\nfrom edgekit.model import Format, Model\n"
            "from edgekit.passes.onnx_errors import as_conversion_error\n"
            "model = Model(pathlib.Path('m.onnx'), Format.ONNX, (), (), '')\n"
            "with as_conversion_error(model, 'quantizer'):\n"
            "    logging.error('root')\n    logging.getLogger('onnxruntime.quantization').error('child')\n"
            "logging.error('afterwards')"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stderr == "ERROR:root:afterwards\n"

    def test_nothing_is_left_but_the_result_in_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        monkeypatch.setattr("tempfile.tempdir", None)
        digits(tmp_path, "pi")
        assert list((tmp_path / "temporary").iterdir()) == []


def test_the_same_model_and_data_give_the_same_bytes(tmp_path: Path) -> None:
    models = [digits(tmp_path, "pi") for _ in range(2)]
    assert models[0].digest == models[1].digest
    assert replace(models[0], path=models[1].path) == models[1]
