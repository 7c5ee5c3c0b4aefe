from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.errors import ConversionError, DataError
from edgekit.model import Model, open_model
from edgekit.order import Order
from edgekit.passes import quantize_tflite
from tests.lab.models import RESNET8, VWW, Task, context, outputs_of, samples, shared, tflite_model


def quantized(folder: Path, source: Path, order: Order) -> Model:
    (folder / "work").mkdir()
    return quantize_tflite.run(open_model(source), context(folder / "work", "pi", order))


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
