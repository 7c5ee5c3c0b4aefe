from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.building.order import Order
from edgekit.errors import ConversionError, DataError
from edgekit.model import Model, open_model
from edgekit.passes import quantize_tflite
from edgekit.precision import Calibrator, Precision, Quantization
from tests.lab.models import RESNET8, VWW, Task, context, outputs_of, samples, shared, tflite_model


def quantized(
    folder: Path, source: Path, order: Order, how: Quantization = Quantization(Precision.INT8), target: str = "pi"
) -> Model:
    work = Path(tempfile.mkdtemp(dir=folder))
    return quantize_tflite.run(open_model(source), context(work, target, order, how))


def made_up(folder: Path, *names: str, size: int = 4) -> Order:
    data = samples(folder / "data.npz", 40, **dict.fromkeys(names, (size,)))
    return Order("app", "", data, data, folder, 1)


def tensors(model: Model) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = Interpreter(model_content=model.path.read_bytes()).get_tensor_details()
    return details


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("resnet")
    return quantized(folder, shared(RESNET8.model), RESNET8.order(folder))


class TestPretrained:
    def test_the_ends_are_float_and_have_the_names_of_the_source(self, resnet: Model) -> None:
        source = open_model(shared(RESNET8.model))
        assert ([*map(str, resnet.inputs)], [*map(str, resnet.outputs)]) == (
            [*map(str, source.inputs)],
            [*map(str, source.outputs)],
        )
        assert resnet.quantized
        assert resnet.lineage == ("quantize-tflite",)
        assert resnet.size < source.size / 3

    def test_weights_are_int8_with_a_scale_for_each_channel_and_activations_int8(self, resnet: Model) -> None:
        found = tensors(resnet)
        scales = [len(each["quantization_parameters"]["scales"]) for each in found if each["dtype"] is np.int8]
        assert max(scales) > 1
        assert scales.count(1) > 10
        many = [each["quantization_parameters"]["zero_points"] for each in found if each["dtype"] is np.int8]
        assert all(not zeros.any() for zeros in many if len(zeros) > 1)

    def test_it_says_what_float_says(self, resnet: Model, tmp_path: Path) -> None:
        source = open_model(shared(RESNET8.model))
        _, evaluation = RESNET8.data(tmp_path)
        with np.load(tmp_path / evaluation) as data:
            x = {resnet.inputs[0].name: data["x"][:200]}
            want, got = (next(iter(outputs_of(each, x).values())).argmax(1) for each in (source, resnet))
        assert (want == got).mean() > 0.93

    def test_the_same_model_and_data_give_the_same_bytes(self, resnet: Model, tmp_path: Path) -> None:
        assert quantized(tmp_path, shared(RESNET8.model), RESNET8.order(tmp_path)).digest == resnet.digest

    @pytest.mark.slow
    @pytest.mark.parametrize("task", [VWW], ids=["vww"])
    def test_images_from_a_folder(self, tmp_path: Path, task: Task) -> None:
        assert quantized(tmp_path, shared(task.model), task.order(tmp_path)).quantized


PRECISIONS = [  # the size, as a share of float's, and the agreement with float are what was measured, with a margin
    (Precision.INT8, 0.32, 0.93),
    (Precision.INT16X8, 0.33, 0.97),
    (Precision.DYNAMIC, 0.3, 0.97),
    (Precision.WEIGHTS, 0.3, 0.97),
    (Precision.FLOAT16, 0.53, 0.98),
]


def resnet_in(folder: Path, precision: Precision, **how: Any) -> Model:
    return quantized(folder, shared(RESNET8.model), RESNET8.order(folder), Quantization(precision, **how))


def agreement(folder: Path, model: Model) -> float:
    """With float, on some evaluation samples."""
    _, evaluation = RESNET8.data(folder)
    with np.load(folder / evaluation) as data:
        x = {model.inputs[0].name: data["x"][:200]}
    source = open_model(shared(RESNET8.model))
    want, got = (next(iter(outputs_of(each, x).values())).argmax(1) for each in (source, model))
    return float((want == got).mean())


def operators(model: Model) -> dict[str, tuple[str, list[str]]]:
    """By the name of the first output: what it is, and the types of what it takes and gives."""
    interpreter = Interpreter(
        model_content=model.path.read_bytes(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    details = {each["index"]: each for each in interpreter.get_tensor_details()}
    found = {}
    for each in interpreter._get_ops_details():
        around = [details[index] for index in (*each["inputs"], *each["outputs"]) if index >= 0]
        found[details[each["outputs"][0]]["name"]] = (each["op_name"], [np.dtype(t["dtype"]).name for t in around])
    return found


class TestPrecision:
    @pytest.mark.parametrize(("precision", "size", "least"), PRECISIONS, ids=lambda each: str(each))
    def test_each_says_what_float_says_and_is_smaller(
        self, tmp_path: Path, precision: Precision, size: float, least: float
    ) -> None:
        source, model = open_model(shared(RESNET8.model)), resnet_in(tmp_path, precision)
        assert agreement(tmp_path, model) >= least
        assert model.size < size * source.size
        assert [*map(str, model.inputs), *map(str, model.outputs)] == [
            *map(str, source.inputs),
            *map(str, source.outputs),
        ]

    @pytest.mark.parametrize("calibrator", Calibrator)
    def test_so_does_int8_by_every_calibrator(self, tmp_path: Path, calibrator: Calibrator) -> None:
        assert agreement(tmp_path, resnet_in(tmp_path, Precision.INT8, calibrator=calibrator)) > 0.93

    @pytest.mark.parametrize(
        ("precision", "kinds"),
        [
            (Precision.INT8, ["int8", "int8", "int32", "int8"]),
            (Precision.INT16X8, ["int16", "int8", "int64", "int16"]),
            (Precision.DYNAMIC, ["float32", "int8", "float32", "float32"]),
            (Precision.WEIGHTS, ["float32", "float32", "float32", "float32"]),
        ],
    )
    def test_what_a_convolution_computes_in(self, tmp_path: Path, precision: Precision, kinds: list[str]) -> None:
        """Input, weights, bias and output."""
        convolutions = [
            types for name, types in operators(resnet_in(tmp_path, precision)).values() if name == "CONV_2D"
        ]
        assert convolutions == [kinds] * len(convolutions)
        assert len(convolutions) == 9

    def test_int16_activations_are_symmetric(self, tmp_path: Path) -> None:
        found = [each for each in tensors(resnet_in(tmp_path, Precision.INT16X8)) if each["dtype"] is np.int16]
        assert len(found) > 10
        assert not any(each["quantization_parameters"]["zero_points"].any() for each in found)


class TestFloatLayers:
    def test_they_stay_float_and_all_others_do_not(self, tmp_path: Path) -> None:
        source = open_model(shared(RESNET8.model))
        computing = set(quantize_tflite.quantize.layers(source))
        kept = frozenset([name for name, (kind, _) in operators(source).items() if kind == "CONV_2D"][2:4])
        assert kept < computing
        found = operators(resnet_in(tmp_path, Precision.MIXED, float_layers=kept))
        convolutions = {name.rstrip(";"): types for name, (kind, types) in found.items() if kind == "CONV_2D"}
        floats = {name for name, types in convolutions.items() if set(types) == {"float32"}}
        assert floats == {name.rstrip(";") for name in kept}
        assert sum(types[1] == "int8" for types in convolutions.values()) == 7

    def test_all_that_may_be_kept_leave_no_layer_in_integers(self, tmp_path: Path) -> None:
        every = frozenset(quantize_tflite.quantize.layers(open_model(shared(RESNET8.model))))
        model = resnet_in(tmp_path, Precision.MIXED, float_layers=every)
        computing = {"CONV_2D", "ADD", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "SOFTMAX"}
        assert not any("int8" in types for kind, types in operators(model).values() if kind in computing)
        assert agreement(tmp_path, model) > 0.98

    def test_a_name_with_signs_of_regular_expressions(self, tmp_path: Path) -> None:
        """The recipe names layers by regular expressions; ``(`` and ``+`` are signs there."""
        source = tflite_model(tmp_path / "m.tflite")
        source.write_bytes(source.read_bytes().replace(b"out:0", b"a(+.1"))
        assert list(quantize_tflite.quantize.layers(open_model(source))) == ["a(+.1", "out:1"]
        order = made_up(tmp_path, "first", "second")
        kept = Quantization(Precision.MIXED, float_layers=frozenset({"a(+.1"}))
        found = operators(quantized(tmp_path, source, order, kept))
        assert {name: types for kind, types in found.values() for name in [kind] if kind in ("ADD", "SUB")} == {
            "ADD": ["float32"] * 3,
            "SUB": ["int8"] * 3,
        }

    def test_layers_that_only_move_numbers_are_not_among_them(self) -> None:
        model = open_model(shared(RESNET8.model))
        moving = {name for name, (kind, _) in operators(model).items() if kind in ("RESHAPE", "DELEGATE")}
        assert moving
        assert not moving & set(quantize_tflite.quantize.layers(model))


BATCHES = """
import numpy as np
def samples():
    rng = np.random.default_rng(0)
    for size in (8, 8, 3):
        yield {"input_1": rng.uniform(0, 255, (size, 32, 32, 3)).astype(np.float32)}
"""


def test_batches_of_several_sizes_calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in_tflite_batches.py").write_text(BATCHES)
    monkeypatch.syspath_prepend(str(tmp_path))
    order = Order("app", "", *["in_tflite_batches:samples"] * 2, tmp_path, 1)
    model = quantized(tmp_path, shared(RESNET8.model), order, Quantization(Precision.INT8, Calibrator.ENTROPY))
    assert agreement(tmp_path, model) > 0.8


def test_ranges_are_those_of_the_calibrator(tmp_path: Path) -> None:
    """A sample in ten thousand values is far beyond the others."""
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(-1, 1, (10_000, 4)).astype(np.float32) for name in ("first", "second")}
    values["first"][77, 2] = 50
    np.savez(tmp_path / "d.npz", **values)  # type: ignore[arg-type]
    order = Order("app", "", "d.npz", "d.npz", tmp_path, 1)
    source = tflite_model(tmp_path / "m.tflite")
    for calibrator, high in ((Calibrator.MINMAX, 50.0), (Calibrator.PERCENTILE, 1.0)):
        model = quantized(tmp_path, source, order, Quantization(Precision.INT8, calibrator))
        (detail,) = [each for each in tensors(model) if each["name"] == "in:0" + "_quantized"]
        (scale,), (zero,) = (detail["quantization_parameters"][key] for key in ("scales", "zero_points"))
        assert scale * (127 - zero) == pytest.approx(high, rel=0.1)


@pytest.mark.parametrize("signatures", [("serving_default",), ("another",), ()])
def test_several_inputs_and_outputs_keep_names_and_order(tmp_path: Path, signatures: tuple[str, ...]) -> None:
    source = open_model(tflite_model(tmp_path / "m.tflite", signatures))
    names = [spec.name for spec in source.inputs]
    model = quantized(tmp_path, source.path, made_up(tmp_path, *names))
    assert [spec.name for spec in model.inputs] == names
    assert [spec.name for spec in model.outputs] == [spec.name for spec in source.outputs]
    assert [spec.dtype for spec in (*model.inputs, *model.outputs)] == ["float32"] * 4
    feeds = dict(zip(names, (np.full((1, 4), value, np.float32) for value in (0.55, 0.45)), strict=True))
    want, got = outputs_of(source, feeds), outputs_of(model, feeds)
    assert list(want) == list(got)
    assert all(np.abs(want[name] - got[name]).max() < 0.05 for name in want)
    assert model.quantized


def test_an_error_in_the_data_is_the_datas_not_the_quantizers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sample 0: input first"):
        quantized(tmp_path, tflite_model(tmp_path / "m.tflite"), made_up(tmp_path, "first", "second", size=5))


def test_what_the_quantizer_cannot_do_is_one_line(tmp_path: Path) -> None:
    source = tflite_model(tmp_path / "m.tflite")
    model, order = open_model(source), made_up(tmp_path, "first", "second")
    source.write_bytes(source.read_bytes().replace(b"out:1", b"out:0"))  # two tensors of one name
    (tmp_path / "work").mkdir()
    with pytest.raises(ConversionError, match=r"m.tflite: the TFLite quantizer failed: .* — build with") as caught:
        quantize_tflite.run(model, context(tmp_path / "work", "pi", order))
    assert "\n" not in str(caught.value)


def test_the_quantizer_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantized(tmp_path, tflite_model(tmp_path / "m.tflite"), made_up(tmp_path, "first", "second"))
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "XNNPACK" not in line] == []
