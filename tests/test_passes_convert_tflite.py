from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.building.order import Order
from edgekit.errors import ConversionError
from edgekit.model import Model, open_model
from edgekit.passes import convert_tflite
from tests.lab.models import RESNET8, VWW, Task, context, outputs_of, samples, shared, tensorflow, tflite_model

pytestmark = pytest.mark.slow


def converted(source: Path, order: Order) -> Model:
    (order.base / "work").mkdir()
    return convert_tflite.run(open_model(source), context(order.base / "work", "jetson", order))


@tensorflow
@pytest.mark.parametrize("task", [RESNET8, VWW], ids=["resnet8", "vww"])
def test_a_real_model_is_the_same_by_the_same_names(task: Task, tmp_path: Path) -> None:
    source, order = open_model(shared(task.model)), task.order(tmp_path)
    model = converted(source.path, order)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        str(spec) for spec in (*source.inputs, *source.outputs)
    ]
    assert model.lineage == ("tflite-to-onnx",)
    (spec,) = source.inputs
    image = np.random.default_rng(0).random((1, *[size or 1 for size in spec.shape[1:]]), np.float32)
    one, other = (next(iter(outputs_of(each, {spec.name: image}).values())) for each in (source, model))
    assert np.allclose(one, other, atol=1e-4)
    document = onnx.load(model.path)
    assert (document.ir_version, [each.version for each in document.opset_import]) == (8, [17])


@tensorflow
def test_several_inputs_keep_their_names_and_a_fixed_batch_stays(tmp_path: Path) -> None:
    data = samples(tmp_path / "data.npz", first=(4,), second=(4,))
    model = converted(tflite_model(tmp_path / "m.tflite"), Order("app", "", data, data, tmp_path, 1))
    assert [str(spec) for spec in model.inputs] == ["first: float32 [1, 4]", "second: float32 [1, 4]"]
    one, other = np.full((1, 4), 3, np.float32), np.ones((1, 4), np.float32)
    given = outputs_of(model, {"first": one, "second": other})
    assert (given["the_sum"] == 4).all()
    assert (given["the_difference"] == 2).all()


@tensorflow
def test_one_that_is_off_is_refused_with_its_first_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = convert_tflite.derived

    def wrong(model: Model, path: Path, step: str) -> Model:
        document = onnx.load(path)
        (last,) = (node for node in document.graph.node if node.op_type in ("Gemm", "MatMul"))
        weight = next(tensor for tensor in document.graph.initializer if tensor.name == last.input[1])
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 2, weight.name))
        onnx.save(document, path)
        return right(model, path, step)

    monkeypatch.setattr(convert_tflite, "derived", wrong)
    with pytest.raises(ConversionError, match=r"; the first layer that differs: model/dense/(MatMul|BiasAdd) — "):
        converted(shared(RESNET8.model), RESNET8.order(tmp_path))


@tensorflow
def test_what_tf2onnx_cannot_convert_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nonsense(model: Model, context: Any) -> Model:
        return convert_tflite.run(replace(model, path=broken), context)

    broken = tmp_path / "broken.tflite"
    broken.write_bytes(shared(RESNET8.model).read_bytes()[:5000])
    (tmp_path / "work").mkdir()
    order = RESNET8.order(tmp_path)
    with pytest.raises(ConversionError, match=r"^broken.tflite: tf2onnx could not convert it: ") as caught:
        nonsense(open_model(shared(RESNET8.model)), context(tmp_path / "work", "jetson", order))
    assert "\n" not in str(caught.value)
