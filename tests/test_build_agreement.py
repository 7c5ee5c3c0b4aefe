"""Builds of models whose answers are no classes: judged by what edgekit.toml declares, memory by measurement."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgekit import bundle, signing
from edgekit import target as targets
from edgekit.budget import Budget
from edgekit.build import Outcome, build
from edgekit.building.order import Order
from edgekit.errors import ConfigError
from edgekit.model import open_model
from edgekit.precision import Precision
from edgekit_runtime import golden
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.prove import prove
from tests.lab.models import dense, onnx_model

HOST = f"generic-{platform.machine().replace('_', '-')}"
PLACES = 24
DECLARED = {"found": Agreement("boxes", corners="xywh", columns="score, class"), "large": Agreement("none")}


def detector(path: Path) -> Path:
    """x [1, 32] → found [N, 6]: as many boxes as score over a half, with one of three classes each."""
    rng = np.random.default_rng(3)
    weights: dict[str, Any] = {
        "w": rng.normal(size=(32, PLACES * 5)).astype(np.float32) * 0.5,
        "b": rng.normal(size=PLACES * 5).astype(np.float32) - np.tile([0, 0, 0, 0, 2], PLACES).astype(np.float32),
        "rows": np.array([PLACES, 5]),
        "scale": np.array([1, 1, 0.2, 0.2, 1], np.float32),
        "shift": np.array([0, 0, 0.1, 0.1, 0], np.float32),
        "class": (np.arange(PLACES).reshape(-1, 1) % 3).astype(np.float32),
        "four": np.array([4]),
        "half": np.array([0.5], np.float32),
        "flat": np.array([PLACES]),
        "thousand": np.array([1000], np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["all"]),
        helper.make_node("Reshape", ["all", "rows"], ["table"]),
        helper.make_node("Sigmoid", ["table"], ["shares"]),
        helper.make_node("Mul", ["shares", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["boxes"]),
        helper.make_node("Gather", ["boxes", "four"], ["score"], axis=1),
        helper.make_node("Greater", ["score", "half"], ["likely"]),
        helper.make_node("Reshape", ["likely", "flat"], ["chosen"]),
        helper.make_node("Concat", ["boxes", "class"], ["whole"], axis=1),
        helper.make_node("Compress", ["whole", "chosen"], ["found"], axis=0),
        helper.make_node("Mul", ["found", "thousand"], ["large"]),
    ]
    return onnx_model(path, nodes, {"x": [1, 32]}, {"found": ["N", 6], "large": ["N", 6]}, weights)


def data(folder: Path, size: int, count: int = 64) -> dict[str, Any]:
    """Other samples for each role."""
    x = np.random.default_rng(5).normal(size=(2 * count, size)).astype(np.float32)
    for name, part in (("calibration", x[:count]), ("evaluation", x[count:])):
        np.savez(folder / f"{name}.npz", x=part)
    return {"calibration": "calibration.npz", "evaluation": "evaluation.npz", "base": folder, "now_s": 1}


def built(path: Path, order: Order) -> Outcome:
    return build(open_model(path), targets.load(HOST), order, lambda line: None)


def test_as_many_boxes_as_there_are_agree_by_the_objects_that_they_are(tmp_path: Path) -> None:
    order = Order("app", "1", **data(tmp_path, 32), precisions=(Precision.INT8, Precision.FLOAT32))
    path = detector(tmp_path / "detector.onnx")
    plain, declared = built(path, order), built(path, replace(order, agreement=DECLARED))
    by_name = [{each.name: each for each in outcome.measured} for outcome in (plain, declared)]
    unlike, alike = (each["onnx-int8"] for each in by_name)
    assert not np.isfinite(unlike.max_abs_error)
    assert any(
        reason.startswith("onnx-int8: gives NaN, or outputs of another shape") for reason in plain.verdict.reasons
    )
    assert 0 < alike.max_abs_error < 0.1
    assert alike.agreement > unlike.agreement + 0.2
    assert declared.contents is not None
    assert declared.contents.manifest.interface.agreement == DECLARED
    lengths = {len(vector.reference["found"]) for vector in golden.parse(declared.contents.golden)}
    assert len(lengths) > 2
    proof = prove(bundle.write(declared.contents, tmp_path / "bundle", signing.signer(None)))
    assert declared.contents.manifest.proof.max_abs_error < 1  # that of what counts
    assert (proof.ok, proof.agreement, proof.vectors) == (True, 1.0, 16)


def test_an_output_that_the_model_does_not_give_is_named(tmp_path: Path) -> None:
    order = Order("app", "1", **data(tmp_path, 8), agreement={"a b": Agreement("kl")})
    with pytest.raises(ConfigError, match=r'edgekit.toml: agreement."a b": no output \'a b\'') as caught:
        built(dense(tmp_path / "m.onnx"), order)
    assert caught.value.hint == "the model gives scores"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_what_needs_too_much_memory_is_refused_and_no_layers_in_float_are_tried(tmp_path: Path) -> None:
    order = Order("app", "1", **data(tmp_path, 8), budget=Budget(max_memory_mib=0.001))
    refused = built(dense(tmp_path / "m.onnx"), replace(order, precisions=(Precision.INT8, Precision.MIXED)))
    assert refused.contents is None
    assert all(each.memory_mib and each.memory_mib < 100 for each in refused.measured)
    assert [each.precision for each in refused.measured] == ["float32", "int8"]
    reasons, notes = refused.verdict.reasons, refused.verdict.notes
    assert any("MiB of memory, allowed are 0.001" in reason for reason in reasons)
    assert any("which would hold max_memory_mib=" in note for note in notes)
    assert "memory is this host's" in notes
