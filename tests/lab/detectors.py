"""A small detector for tests, and the ways in which exported ones end: by the suppression of boxes that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE, CELLS, CLASSES = 32, 8, 3
BOXES = CELLS * CELLS
Node = onnx.NodeProto

OUTPUTS = {
    "num_dets": (TensorProto.INT32, ["N", 1]),
    "det_boxes": (TensorProto.FLOAT, ["N", 20, 4]),
    "det_scores": (TensorProto.FLOAT, ["N", 20]),
    "det_classes": (TensorProto.INT32, ["N", 20]),
}
"""In the order of EfficientNMS_TRT, with its usual names."""


def efficient(domain: str = "TRT", **attributes: Any) -> list[Node]:
    """The end by TensorRT's plugin."""
    told = {"score_threshold": 0.3, "iou_threshold": 0.45, "max_output_boxes": 20, "background_class": -1}
    told |= {"score_activation": 0, "box_coding": 0, "plugin_version": "1", **attributes}
    names = ["boxes", "scores", *(["anchors"] if "anchors" in attributes else [])]
    return [helper.make_node("EfficientNMS_TRT", names, list(OUTPUTS), name="/end/nms", domain=domain, **told)]


SELECTED = {"det_boxes": (TensorProto.FLOAT, ["K", 4]), "det_scores": (TensorProto.FLOAT, ["K"])}
SELECTED["det_classes"] = (TensorProto.INT64, ["K"])


def selected() -> list[Node]:
    """The end by ONNX's own operator, as exporters write it: the boxes of image 0 that are left, best of each class."""
    nodes = [
        helper.make_node("Transpose", ["scores"], ["by_class"], perm=[0, 2, 1]),
        helper.make_node("NonMaxSuppression", ["boxes", "by_class", "most", "iou", "least"], ["rows"], name="/end/nms"),
        helper.make_node("Gather", ["rows", "one"], ["classes"], axis=1),
        helper.make_node("Gather", ["rows", "two"], ["places"], axis=1),
        helper.make_node("Squeeze", ["classes", "last"], ["det_classes"]),
        helper.make_node("Squeeze", ["places", "last"], ["at"]),
        helper.make_node("Squeeze", ["boxes", "first"], ["flat"]),
        helper.make_node("Gather", ["flat", "at"], ["det_boxes"], axis=0),
        helper.make_node("GatherND", ["by_class", "rows"], ["det_scores"]),
    ]
    return nodes


NUMBERS: dict[str, NDArray[Any]] = {
    "most": np.asarray([20]),
    "iou": np.asarray([0.45], np.float32),
    "least": np.asarray([0.3], np.float32),
    "one": np.asarray([1]),
    "two": np.asarray([2]),
    "last": np.asarray([1]),
    "first": np.asarray([0]),
}


def detector(
    path: Path,
    end: Sequence[Node],
    outputs: dict[str, tuple[int, list[Any]]],
    batch: int | str = "N",
    opset: int = 17,
) -> Path:
    """An ONNX detector: image [N, 3, 32, 32] → boxes [N, 64, 4] by their corners in pixels, scores [N, 64, 3]; its end.

    Two convolutions average each colour, which is a class, and the last gives what is added to a grid of boxes, and
    logits.
    """
    weights = _weights() | NUMBERS | {"grid": _grid()}
    weights |= {"rows_shape": np.asarray([0, 4 + CLASSES, BOXES]), "parts": np.asarray([4, CLASSES])}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="/conv1", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="/conv2", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="/head"),
        helper.make_node("Reshape", ["c3", "rows_shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["table"], perm=[0, 2, 1]),
        helper.make_node("Split", ["table", "parts"], ["moves", "logits"], axis=2),
        helper.make_node("Add", ["moves", "grid"], ["boxes"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        *end,
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, *told) for name, told in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    domains = sorted({node.domain for node in nodes} - {""})
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return path


def _weights() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 0.02, (8, 3, 3, 3)), rng.normal(0, 0.02, (16, 8, 3, 3))
    head = rng.normal(0, 1, (4 + CLASSES, 16, 1, 1))
    head[4:] = 0
    for colour in range(CLASSES):
        first[colour, colour] = second[colour, colour] = 1 / 9
        head[4 + colour, colour] = 10
    weights = {"w1": first, "w2": second, "w3": head, "b3": np.asarray([0] * 4 + [-5] * CLASSES)}
    return {name: array.astype(np.float32) for name, array in weights.items()}


def _grid() -> NDArray[Any]:
    """Boxes of 12 pixels around the centres of the cells, by their corners."""
    centres = (np.arange(CELLS) + 0.5) * SIZE / CELLS
    y, x = (axis.ravel() for axis in np.meshgrid(centres, centres, indexing="ij"))
    return np.stack([x - 6, y - 6, x + 6, y + 6], axis=1)[None].astype(np.float32)


def images(path: Path, count: int = 32, seed: int = 0) -> str:
    """An .npz of dark images with three squares, each of one colour and around a cell; its path."""
    rng = np.random.default_rng(seed)
    made = rng.random((count, 3, SIZE, SIZE), np.float32) * np.float32(0.1)
    for image in made:
        for row, column, colour in rng.integers((1, 1, 0), (7, 7, CLASSES), (3, 3)):
            place = (colour, slice(row * 4 - 2, row * 4 + 6), slice(column * 4 - 2, column * 4 + 6))
            image[place] = 0.7 + 0.3 * rng.random((8, 8), np.float32)
    np.savez(path, image=made)
    return str(path)
