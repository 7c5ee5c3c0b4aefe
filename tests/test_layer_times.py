"""What single layers take, as a device tells it."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.bench.layer_times import layer_times

NODES: list[dict[str, Any]] = [
    {"name": "a", "op": "Conv", "provider": "cpu", "ms": 0.5},
    {"name": "b", "op": "Gemm", "provider": "cpu", "ms": 0.3},
    {"name": "c", "op": "Conv", "provider": "cpu", "ms": 0.2},
]


def test_by_layer_and_by_op() -> None:
    found = layer_times(NODES, "onnxruntime").as_dict()
    assert [(layer["name"], layer["share"]) for layer in found["layers"]] == [("a", 0.5), ("b", 0.3), ("c", 0.2)]
    assert found["ops"] == [
        {"op": "Conv", "nodes": 2, "ms": 0.7, "share": 0.7},
        {"op": "Gemm", "nodes": 1, "ms": 0.3, "share": 0.3},
    ]
    assert found["note"] is None


def test_an_engine_that_does_not_tell() -> None:
    for engine in ("litert", "tflite", "theirs"):
        found = layer_times(None, engine)
        assert not found.layers
        assert found.note
        assert "does not time single nodes" in found.note


def test_a_model_whose_nodes_take_no_time_at_all() -> None:
    assert layer_times([{**NODES[0], "ms": 0}], "onnxruntime").layers[0].share == 0
    assert layer_times([], "onnxruntime").ops == ()


@pytest.mark.parametrize("told", ["x", [1], [{"name": "a"}], [{**NODES[0], "ms": "1"}], [{**NODES[0], "op": 1}]])
def test_what_no_device_says(told: Any) -> None:
    with pytest.raises((ValueError, KeyError)):
        layer_times(told, "onnxruntime")
