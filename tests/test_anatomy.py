"""What a model is made of: numbers that its maker published, or that something else counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit import anatomy_onnx, anatomy_tflite
from edgekit.anatomy import Anatomy, Choice, Total, choices, dissect, precision
from edgekit.errors import BundleError
from edgekit.formats import tflite_graph
from tests.lab.bundles import contents, make_bundle
from tests.lab.models import RESNET8, RESNET8_INT8, RESNET20, dense, onnx_model, shared, tflite_model

CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}


def names(anatomy: Anatomy) -> list[tuple[str, str, str]]:
    return [(layer.name, layer.op, layer.precision) for layer in anatomy.layers]


@pytest.mark.parametrize(
    ("activations", "weight", "word"),
    [
        (["float32"], "float32", "float32"),
        (["float32"], "", "float32"),
        (["float32", "int64"], "int64", "float32"),
        (["float32"], "int8", "int8 weights"),
        (["float32"], "int4", "int4 weights"),
        (["float32"], "float16", "float16 weights"),
        (["float16"], "float16", "float16"),
        (["float16"], "float32", "float16"),
        (["int8"], "int8", "int8"),
        (["int8", "int8"], "", "int8"),
        (["int8", "float32"], "", "float32"),
        (["int8"], "int4", "int8, int4 weights"),
        (["int8"], "float32", "float32"),
        (["int16"], "int8", "int16"),
        (["int16", "int8"], "", "int16"),
        (["int64"], "int8", "int8 weights"),
        (["int64"], "float32", "float32"),
        (["int64"], "", "int64"),
        (["bool", "int64"], "int64", "int64"),
        ([], "", ""),
    ],
)
def test_the_word_for_what_an_operator_computes_in(activations: list[str], weight: str, word: str) -> None:
    assert precision(activations, weight) == word


class TestOnnx:
    def test_the_parameters_of_resnet_20_are_those_that_were_published(self) -> None:
        """269,722 with two for each of 688 channels of batch normalization, of which folding leaves one."""
        anatomy = anatomy_onnx.read(shared(RESNET20.model).read_bytes())
        trained = sum(layer.weight_bytes for layer in anatomy.layers if layer.op in ("Conv", "Gemm"))
        assert trained == 4 * (269_722 - 688)
        assert {layer.precision for layer in anatomy.layers if layer.op in ("Conv", "Gemm", "Relu")} == {"float32"}
        assert anatomy.by_op["Conv"].layers == 19
        assert anatomy.needs == {"ai.onnx": "17", "ir_version": "8"}

    def test_a_bundle_of_int8_layers(self, tmp_path: Path) -> None:
        """Against a count of its own: every node but conversions, every weight but scales and zero points."""
        bundle = make_bundle(tmp_path / "bundle")
        anatomy, graph = dissect(bundle), onnx.load_from_string(contents().model).graph
        assert anatomy
        assert [layer.name for layer in anatomy.layers] == [n.name for n in graph.node if n.op_type not in CONVERSIONS]
        assert anatomy.by_precision.keys() == {"int8"}
        parameters = {name for node in graph.node if node.op_type in CONVERSIONS for name in node.input[1:]}
        weights = [numpy_helper.to_array(each) for each in graph.initializer if each.name not in parameters]
        assert anatomy.weight_bytes == sum(array.nbytes for array in weights)
        assert anatomy.layers[-1].shape == (None, 10)

    def test_layers_that_were_kept_float(self, tmp_path: Path) -> None:
        anatomy = anatomy_onnx.read(_quantized(tmp_path, nodes_to_exclude=["second"]))
        assert names(anatomy) == [("first", "Gemm", "int8"), ("second", "Gemm", "float32"), ("third", "Gemm", "int8")]
        assert [layer.weight_bytes for layer in anatomy.layers] == [8 * 8 + 4 * 8, 4 * 8 * 9, 8 * 8 + 4 * 8]
        assert anatomy.by_precision == {"int8": Total(2, 192), "float32": Total(1, 288)}

    def test_int16_activations(self, tmp_path: Path) -> None:
        """In operators of onnxruntime, whose types onnx does not know."""
        from onnxruntime.quantization import QuantType

        anatomy = anatomy_onnx.read(
            _quantized(tmp_path, activation_type=QuantType.QInt16, extra_options={"UseQDQContribOps": True})
        )
        assert [layer.precision for layer in anatomy.layers] == ["int16"] * 3
        assert anatomy.needs["com.microsoft"] == "1"

    def test_operators_on_integers(self, tmp_path: Path) -> None:
        """The form without Q/DQ nodes: the scales are not the weights."""
        from onnxruntime.quantization import QuantFormat

        anatomy = anatomy_onnx.read(_quantized(tmp_path, quant_format=QuantFormat.QOperator))
        assert [(layer.op, layer.precision) for layer in anatomy.layers] == [("QGemm", "int8")] * 3

    def test_activations_quantized_at_every_call(self, tmp_path: Path) -> None:
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(dense(tmp_path / "m.onnx"), tmp_path / "q.onnx")
        anatomy = anatomy_onnx.read((tmp_path / "q.onnx").read_bytes())
        words = {(layer.op, layer.precision, layer.weight_bytes) for layer in anatomy.layers}
        assert {("MatMulInteger", "int8", 32 + 1), ("Cast", "int32", 0), ("Mul", "float32", 0)} <= words
        assert "DynamicQuantizeLinear" not in anatomy.by_op

    def test_weights_alone(self, tmp_path: Path) -> None:
        weights = {"w": np.ones((8, 4), np.int8), "s": np.float32(0.5)}
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["wide"]),
            helper.make_node("Transpose", ["wide"], ["turned"]),
            helper.make_node("MatMul", ["x", "wide"], ["y"], name="a"),
            helper.make_node("MatMul", ["y", "turned"], ["z"]),
        ]
        anatomy = _read(tmp_path, nodes, {"x": ["N", 8]}, {"z": ["N", 8]}, weights)
        assert names(anatomy) == [("a", "MatMul", "int8 weights"), ("z", "MatMul", "int8 weights")]
        assert [layer.weight_bytes for layer in anatomy.layers] == [32, 0]  # shared: counted with the first

    def test_int4_lies_packed(self, tmp_path: Path) -> None:
        weight = helper.make_tensor("w", TensorProto.INT4, [3, 3], [1] * 9)
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "s"], ["wide"]),
            helper.make_node("MatMul", ["x", "wide"], ["y"]),
        ]
        path = onnx_model(
            tmp_path / "m.onnx",
            nodes,
            {"x": ["N", 3]},
            {"y": ["N", 3]},
            {"s": np.float32(1)},
            opsets=[("", 21)],
            ir_version=10,
        )
        model = onnx.load(path)
        model.graph.initializer.append(weight)
        [layer] = anatomy_onnx.read(model.SerializeToString()).layers
        assert (layer.precision, layer.weight_bytes) == ("int4 weights", 5)

    def test_what_an_operator_is_told_is_no_operand(self, tmp_path: Path) -> None:
        """The bounds of a Clip are floats in a quantized model as well; a factor in float is computed with in float."""
        given: dict[str, Any] = {"s": np.float32(0.1), "z": np.uint8(3), "low": np.float32(0), "high": np.float32(6)}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("Clip", ["d", "low", "high"], ["c"]),
            helper.make_node("Mul", ["d", "high"], ["m"]),
            helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
            helper.make_node("Constant", [], ["three"], value_float=3.0),
            helper.make_node("Add", ["c", "two"], ["y"]),
            helper.make_node("Add", ["m", "three"], ["w"]),
        ]
        anatomy = _read(tmp_path, nodes, {"x": [1, 4]}, {"y": [1, 4], "w": [1, 4]}, given)
        assert names(anatomy) == [
            ("c", "Clip", "int8"),
            ("m", "Mul", "float32"),
            ("y", "Add", "float32"),
            ("w", "Add", "float32"),
        ]

    def test_branches_are_taken_apart_as_well(self, tmp_path: Path) -> None:
        def branch(name: str, factor: int) -> onnx.GraphProto:
            weight = numpy_helper.from_array(np.full((4,), factor, np.float32), f"{name}_w")
            node = helper.make_node("Mul", ["x", f"{name}_w"], [f"{name}_y"])
            output = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [1, 4])
            return helper.make_graph([node], name, [], [output], [weight])

        nodes = [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch("a", 1), else_branch=branch("b", 2)),
        ]
        anatomy = _read(tmp_path, nodes, {"x": [1, 4]}, {"y": [1, 4]})
        assert [layer.op for layer in anatomy.layers] == ["ReduceSum", "Cast", "If", "Mul", "Mul"]
        assert anatomy.by_op["Mul"] == Total(2, 32)

    @given(st.data())
    def test_any_bytes_are_a_model_or_one_line(self, data: st.DataObject) -> None:
        _damage(contents().model, anatomy_onnx.read, data)

    def test_weights_in_other_files_are_refused(self, tmp_path: Path) -> None:
        model = onnx.load(dense(tmp_path / "m.onnx"))
        onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=0)
        with pytest.raises(ValueError, match="other files"):
            anatomy_onnx.read(model.SerializeToString())


class TestTflite:
    def test_the_parameters_of_resnet_8_are_those_that_were_published(self) -> None:
        """78,666 with four for each of 240 channels of batch normalization, of which folding leaves none. Of the others
        346 are biases, which int8 keeps in 32 bits. Eight bytes are the shape for the one RESHAPE.
        """
        floats, int8 = (anatomy_tflite.read(shared(task.model).read_bytes()) for task in (RESNET8, RESNET8_INT8))
        parameters, biases = 78_666 - 4 * 240, 346
        assert floats.weight_bytes == 4 * parameters + 8
        assert int8.weight_bytes == parameters - biases + 4 * biases + 8
        assert (floats.by_precision.keys(), int8.by_precision.keys()) == ({"float32"}, {"int8"})
        assert floats.layers[-1].shape == int8.layers[-1].shape == (None, 10)

    @pytest.mark.parametrize(
        "name",
        [
            RESNET8_INT8.model,
            "dscnn_kws/dscnn_kws_float32.tflite",
            "mobilenetv2_imagenet_quant/mobilenet_v2_1.0_224_quant_uint8.tflite",
        ],
    )
    def test_the_layers_are_the_operators_that_litert_runs(self, name: str) -> None:
        data = shared(name).read_bytes()
        from ai_edge_litert.interpreter import OpResolverType

        plain = Interpreter(
            model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        run = [each for each in plain._get_ops_details() if each["op_name"] not in ("QUANTIZE", "DEQUANTIZE")]
        tensors = {each["index"]: each for each in plain.get_tensor_details()}
        layers = anatomy_tflite.read(data).layers
        assert [(layer.op, layer.name) for layer in layers] == [
            (each["op_name"], tensors[each["outputs"][0]]["name"]) for each in run
        ]

    def test_weights_alone(self) -> None:
        """The keyword model that is called float has int8 weights in its convolutions."""
        anatomy = anatomy_tflite.read(shared("dscnn_kws/dscnn_kws_float32.tflite").read_bytes())
        words = Counter((layer.op, layer.precision) for layer in anatomy.layers)
        assert words["CONV_2D", "int8 weights"] == 5
        assert words["DEPTHWISE_CONV_2D", "float32"] == 4

    def test_an_older_kind_of_eight_bits(self) -> None:
        name = "mobilenetv2_imagenet_quant/mobilenet_v2_1.0_224_quant_uint8.tflite"
        assert anatomy_tflite.read(shared(name).read_bytes()).by_precision.keys() == {"int8"}

    def test_what_a_runtime_must_know(self) -> None:
        needs = anatomy_tflite.read(shared(RESNET8_INT8.model).read_bytes()).needs
        assert needs["CONV_2D"] == "3"
        assert needs["min_runtime_version"] == "1.5.0"

    @given(st.data())
    def test_any_bytes_are_a_model_or_one_line(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        file = tmp_path_factory.getbasetemp() / "small.tflite"
        _damage((file if file.exists() else tflite_model(file)).read_bytes(), anatomy_tflite.read, data)

    def test_a_file_of_more_parts_than_there_can_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = tflite_model(tmp_path / "m.tflite").read_bytes()
        for most in (2, 4, 8):
            monkeypatch.setattr(tflite_graph, "MOST", most)
            with pytest.raises(ValueError, match="not a TFLite file"):
                anatomy_tflite.read(data)
        monkeypatch.setattr(tflite_graph, "MOST", 16)
        assert len(anatomy_tflite.read(data).layers) == 2


class TestBundles:
    def test_bytes_that_are_no_model_are_one_line_with_the_folder(self, tmp_path: Path) -> None:
        for form in ("onnx", "tflite"):
            bundle = make_bundle(tmp_path / form, replace(contents(), model=b"no model at all"), format=form)
            with pytest.raises(BundleError, match=f"{tmp_path / form}: its model cannot be read") as raised:
                dissect(bundle)
            assert "\n" not in str(raised.value)

    def test_the_format_of_a_plug_in_has_no_anatomy(self, tmp_path: Path) -> None:
        assert dissect(make_bundle(tmp_path / "bundle", format="other")) is None

    def test_why_each_layer_is_as_it_is(self, tmp_path: Path) -> None:
        layers = [
            {"name": "a", "precision": "int8", "sqnr_db": 31.5, "reason": "31.5 dB"},
            {"name": "b", "precision": "float32", "sqnr_db": None, "reason": "kept"},
        ]
        bundle = make_bundle(tmp_path / "bundle", provenance={"layers": layers})
        assert choices(bundle) == (Choice("a", "int8", 31.5, "31.5 dB"), Choice("b", "float32", None, "kept"))
        assert choices(make_bundle(tmp_path / "other", provenance={})) == ()

    @pytest.mark.parametrize(
        "layers",
        [
            3,
            {},
            [3],
            [{}],
            [{"name": 1, "precision": "", "sqnr_db": 1, "reason": ""}],
            [{"name": "", "precision": "", "sqnr_db": "high", "reason": ""}],
        ],
    )
    def test_an_account_that_is_none_is_one_line(self, tmp_path: Path, layers: Any) -> None:
        with pytest.raises(BundleError, match="its account of the layers cannot be read"):
            choices(make_bundle(tmp_path / "bundle", provenance={"layers": layers}))


def _read(folder: Path, nodes: Sequence[onnx.NodeProto], *rest: Any) -> Anatomy:
    return anatomy_onnx.read(onnx_model(folder / "m.onnx", nodes, *rest).read_bytes())


def _quantized(folder: Path, **settings: Any) -> bytes:
    """Three dense layers of 8 by 8, quantized by onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter([{"x": np.random.default_rng(0).random((4, 8), np.float32)}])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.feeds, None)

    rng, steps = np.random.default_rng(1), ("first", "second", "third")
    weights = {
        f"{step}_{w}": rng.normal(size=(8, 8)[-n:]).astype(np.float32)
        for step in steps
        for w, n in (("w", 2), ("b", 1))
    }
    nodes = [
        helper.make_node("Gemm", [before, f"{step}_w", f"{step}_b"], [f"{step}_y"], name=step)
        for before, step in zip(("x", "first_y", "second_y"), steps, strict=True)
    ]
    path = onnx_model(folder / "float.onnx", nodes, {"x": ["N", 8]}, {"third_y": ["N", 8]}, weights)
    settings = {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8, **settings}
    quantize_static(path, folder / "int8.onnx", Reader(), **settings)
    return (folder / "int8.onnx").read_bytes()


def _damage(whole: bytes, read: Any, data: st.DataObject) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))])
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)):
        damaged[place : place + 1] = bytes([value]) if place < len(damaged) else b""
    try:
        assert isinstance(read(bytes(damaged)).as_dict(), dict)
    except ValueError as error:
        assert "\n" not in str(error)
