"""Published models with labelled data, built for a Pi and for a Jetson: the accuracies are the known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit import target
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.model import open_model
from edgekit_runtime.preprocess import Preprocess

MODELS = Path(__file__).parents[3] / "shared" / "models"
POINT = 0.01
CIFAR = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="NCHW")

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="../shared/models is not here")


def made(tmp_path: Path, model: str, kind: str, *, raw: bool = False) -> Outcome:
    """Built on CIFAR-10: uint8 images where preprocessing makes floats of them."""
    with np.load(MODELS / "data" / "cifar10.npz") as data:
        dtype = np.uint8 if raw else np.float32
        np.savez(tmp_path / "calibration.npz", x=data["calib_x"].astype(dtype))
        np.savez(tmp_path / "evaluation.npz", x=data["test_x"].astype(dtype), labels=data["test_y"])
    data_files = {"calibration": "calibration.npz", "evaluation": "evaluation.npz"}
    steps = {"image": CIFAR} if raw else {}
    order = Order("app", "1", **data_files, base=tmp_path, now_s=1, preprocess=steps)
    return build(open_model(MODELS / model), target.load(kind), order, print)


def check(outcome: Outcome, accuracy: float) -> None:
    """Float is as good as published; what ships is int8, within a point, and smaller."""
    baseline, chosen = outcome.measured[0], next(each for each in outcome.measured if each.chosen)
    assert baseline.accuracy == pytest.approx(accuracy, abs=0.002)
    assert chosen.precision in ("int8", "mixed")
    assert chosen.accuracy is not None
    assert chosen.accuracy >= accuracy - POINT
    assert chosen.size_bytes < baseline.size_bytes / 2


def graph_of(outcome: Outcome) -> onnx.ModelProto:
    assert outcome.contents is not None
    return onnx.load_model_from_string(outcome.contents.model)


def zero_points(model: onnx.ModelProto, op: str) -> list[np.ndarray]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [constants[node.input[2]] for node in model.graph.node if node.op_type == op]


@pytest.mark.slow
def test_resnet20_onnx_for_a_pi_has_uint8_activations_and_int8_weights_per_channel(tmp_path: Path) -> None:
    outcome = made(tmp_path, "resnet20_cifar10/resnet20_cifar10.onnx", "pi", raw=True)
    check(outcome, 0.824)
    model = graph_of(outcome)
    assert {zero.dtype.name for zero in zero_points(model, "QuantizeLinear")} == {"uint8"}
    weights = [zero for zero in zero_points(model, "DequantizeLinear") if zero.dtype == np.int8]
    assert any(zero.size > 1 for zero in weights)
    assert not any(zero.any() for zero in weights)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


@pytest.mark.slow
def test_resnet20_onnx_for_a_jetson_is_symmetric_int8_throughout(tmp_path: Path) -> None:
    outcome = made(tmp_path, "resnet20_cifar10/resnet20_cifar10.onnx", "jetson", raw=True)
    check(outcome, 0.824)
    model = graph_of(outcome)
    zeros = [*zero_points(model, "QuantizeLinear"), *zero_points(model, "DequantizeLinear")]
    assert {zero.dtype.name for zero in zeros} <= {"int8", "int32"}
    assert not any(zero.any() for zero in zeros)
    assert any(zero.size > 1 for zero in zeros)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}


@pytest.mark.slow
def test_resnet8_tflite_for_a_pi_keeps_the_names_and_the_float_ends_of_its_source(tmp_path: Path) -> None:
    outcome = made(tmp_path, "resnet8_cifar10/resnet8_cifar10_float32.tflite", "pi")
    check(outcome, 0.762)
    assert outcome.contents is not None
    interface = outcome.contents.manifest.interface
    assert [str(spec) for spec in interface.inputs] == ["input_1: float32 [N, 32, 32, 3]"]
    assert [str(spec) for spec in interface.outputs] == ["Identity: float32 [N, 10]"]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        pytest.param("resnet8_cifar10.keras", "pi", marks=pytest.mark.slow),
        pytest.param("resnet8_cifar10.keras", "jetson", marks=pytest.mark.slow),
        pytest.param("resnet8_cifar10.h5", "pi", marks=pytest.mark.slow),
        pytest.param("resnet8_cifar10.h5", "jetson", marks=pytest.mark.slow),
    ],
)
def test_resnet8_keras_becomes_what_the_target_runs(tmp_path: Path, file: str, kind: str) -> None:
    pytest.importorskip("tensorflow")
    outcome = made(tmp_path, f"resnet8_cifar10/{file}", kind)
    check(outcome, 0.762)
    formats = {each.format for each in outcome.measured}
    assert formats == ({"tflite", "onnx"} if kind == "pi" else {"onnx"})


@pytest.mark.slow
def test_the_same_inputs_give_the_same_layers(tmp_path: Path) -> None:
    one, two = (made(tmp_path, "resnet8_cifar10/resnet8_cifar10_float32.tflite", "pi").contents for _ in range(2))
    assert one is not None
    assert two is not None
    assert (one.model, one.golden) == (two.model, two.golden)
