from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from edgekit import target
from edgekit.budget import Budget
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.model import open_model
from edgekit.precision import Precision
from tests.lab.models import DIGITS, digits_order, onnx_model


def layers(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.contents is not None
    found: list[dict[str, Any]] = outcome.contents.manifest.provenance["layers"]
    return found


def test_every_layer_of_int8_tells_what_its_output_keeps() -> None:
    order = digits_order(precisions=(Precision.INT8,))
    told = layers(build(open_model(DIGITS / "digits.onnx"), target.load("pi"), order, lambda line: None))
    assert [each["precision"] for each in told] == ["int8"] * len(told)
    assert len(told) == 4
    for each in told:
        assert 20 < each["sqnr_db"] < 60
        assert each["reason"] == f"its output keeps {each['sqnr_db']:.1f} dB"


def test_float_and_what_is_not_calibrated_have_nothing_to_tell() -> None:
    order = digits_order(precisions=(Precision.WEIGHTS,))
    assert layers(build(open_model(DIGITS / "digits.onnx"), target.load("pi"), order, lambda line: None)) == []


def test_a_layer_in_float_tells_why(tmp_path: Path) -> None:
    """Boxes beside scores: only what joins them has to stay in float."""
    rng = np.random.default_rng(0)
    weights = {
        "w": (rng.normal(size=(16, 3, 3, 3)) * 0.3).astype(np.float32),
        "b": (rng.normal(size=(4, 16, 1, 1)) * 100).astype(np.float32),
        "s": rng.normal(size=(5, 16, 1, 1)).astype(np.float32),
        "middle": np.full(4, 320, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], kernel_shape=[3, 3]),
        helper.make_node("Conv", ["features", "b", "middle"], ["boxes"]),
        helper.make_node("Conv", ["features", "s"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["detections"], axis=1),
    ]
    onnx_model(tmp_path / "m.onnx", nodes, {"image": ["N", 3, 12, 12]}, {"detections": ["N", 9, 10, 10]}, weights)
    for seed, name in enumerate(("calibration", "evaluation")):
        images = np.random.default_rng(seed).random((48, 3, 12, 12)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", image=images)
    wanted = (Precision.INT8, Precision.MIXED)
    order = Order("app", "1", "calibration.npz", "evaluation.npz", tmp_path, 1, Budget(None, 0.99), precisions=wanted)
    outcome = build(open_model(tmp_path / "m.onnx"), target.load("jetson"), order, lambda line: None)
    (chosen,) = [each for each in outcome.measured if each.chosen]
    assert (chosen.name, chosen.float_layers) == ("onnx-mixed", ("detections",))
    kept = {each["name"]: each for each in layers(outcome)}["detections"]
    assert kept["precision"] == "float32"
    assert kept["reason"].startswith("the budget needs it in float: alone it leaves the outputs ")
    assert kept["sqnr_db"] < 10
    assert any("is of mixed scales (columns 0-3 about" in note for note in outcome.verdict.notes)
    assert any(
        line.startswith("onnx-mixed: most noise in the outputs comes from detections") for line in outcome.verdict.notes
    )
