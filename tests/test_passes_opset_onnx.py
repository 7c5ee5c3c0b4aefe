from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgekit.passes.opset_onnx import at_opset
from tests.lab.models import onnx_model

PADS = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
SIZES: dict[str, Any] = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
AT = {"at": np.zeros((1, 1, 1, 1), np.int64), "new": np.ones((1, 1, 1, 1), np.float32)}

SAME = [
    (helper.make_node("Pad", ["x", "pads"], ["y"], mode="reflect"), PADS),
    (helper.make_node("Resize", ["x", "roi", "scales"], ["y"], mode="linear", antialias=0), SIZES),
    (helper.make_node("Resize", ["x", "", "scales"], ["y"], keep_aspect_ratio_policy="stretch"), SIZES),
    (helper.make_node("ScatterElements", ["x", "at", "new"], ["y"], axis=1, reduction="none"), AT),
    (helper.make_node("ReduceMean", ["x", "axes"], ["y"], noop_with_empty_axes=0), {"axes": np.array([2, 3])}),
    (helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0), {}),
]
NEWER = [
    (
        helper.make_node("Pad", ["x", "four", "", "axes"], ["y"]),
        {"four": np.array([1, 1, 1, 1]), "axes": np.array([2, 3])},
    ),
    (helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1), SIZES),
    (helper.make_node("Mish", ["x"], ["y"]), {}),
]


def written(path: Path, node: onnx.NodeProto, weights: dict[str, Any], opset: int = 18) -> onnx.ModelProto:
    used = {name: array for name, array in weights.items() if name in node.input}
    ends: tuple[dict[str, Sequence[Any]], ...] = ({"x": ["N", 3, 8, 8]}, {"y": [None] * 4})
    if node.op_type == "ReduceMax":
        ends = ({"x": ["N", 3, 8, 8]}, {"y": []})
    return onnx.load(onnx_model(path, [node], *ends, used, opsets=[("", opset)]))


def run(document: onnx.ModelProto, x: Any) -> Any:
    return onnxruntime.InferenceSession(document.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize(("node", "weights"), SAME, ids=lambda each: getattr(each, "op_type", ""))
@pytest.mark.parametrize("opset", [13, 17])
def test_what_18_did_not_change_is_the_same(
    tmp_path: Path, node: onnx.NodeProto, weights: dict[str, Any], opset: int
) -> None:
    document = written(tmp_path / "m.onnx", node, weights)
    older = at_opset(document, opset)
    onnx.checker.check_model(older, full_check=True)
    assert [(entry.domain, entry.version) for entry in older.opset_import] == [("", opset)]
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    assert np.array_equal(run(document, x), run(older, x))
    assert document == onnx.load(tmp_path / "m.onnx")


@pytest.mark.parametrize(("node", "weights"), NEWER, ids=lambda each: getattr(each, "op_type", ""))
def test_what_is_new_in_18_has_no_older_form(tmp_path: Path, node: onnx.NodeProto, weights: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=r"No Adapter|not supported|No Previous Version"):
        at_opset(written(tmp_path / "m.onnx", node, weights), 17)
