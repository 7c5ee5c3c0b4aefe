"""EfficientNMS_TRT for ONNX's reference evaluator, to hold the runtime's own against it: onnxruntime's
NonMaxSuppression chooses the boxes, of one image and, where boxes have classes, of one class at a time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference.op_run import OpRun

Array = NDArray[Any]
TOP = 4096


def operator(domain: str) -> type[OpRun]:
    """The operator, in the domain that a model has it in."""
    return type("EfficientNMS_TRT", (_EfficientNms,), {"op_domain": domain})


class _EfficientNms(OpRun):  # type: ignore[misc]
    def _run(self, boxes: Array, scores: Array, anchors: Array | None = None, **attributes: Any) -> tuple[Array, ...]:
        told: dict[str, Any] = {
            "score_threshold": 0.5,
            "iou_threshold": 0.5,
            "max_output_boxes": 100,
            "background_class": -1,
        }
        told |= {"score_activation": 0, "class_agnostic": 0, "box_coding": 0} | _own(self.onnx_node)
        corners = _corners(boxes if boxes.ndim == 4 else boxes[:, :, None], anchors, told["box_coding"])
        values = 1 / (1 + np.exp(-scores)) if told["score_activation"] else scores
        rows = [_image(*image, told) for image in zip(corners, values.reshape(values.shape[:3]), strict=True)]
        most: int = told["max_output_boxes"]
        counts = np.asarray([[min(len(row), most)] for row in rows], np.int32)
        table = np.asarray([np.pad(row[:most], ((0, most - min(len(row), most)), (0, 0))) for row in rows])
        given, told_scores, classes = table[..., :4], table[..., 4], table[..., 5]
        return counts, given.astype(boxes.dtype), told_scores.astype(scores.dtype), classes.astype(np.int32)


def _own(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _corners(boxes: Array, anchors: Array | None, coding: int) -> Array:
    y, x, h, w = np.moveaxis(boxes, -1, 0)
    if anchors is not None:
        ay, ax, ah, aw = np.moveaxis(anchors[:, :, None], -1, 0)
        if coding:
            y, x, h, w = y * ah + ay, x * aw + ax, ah * np.exp(h), aw * np.exp(w)
        else:
            (y, h), (x, w) = np.sort([y, h], 0) + np.sort([ay, ah], 0), np.sort([x, w], 0) + np.sort([ax, aw], 0)
    ends = (y - h / 2, x - w / 2, y + h / 2, x + w / 2) if coding else (y, x, h, w)
    return np.stack(ends, -1).astype(np.float32)


def _image(boxes: Array, scores: Array, told: dict[str, Any]) -> Array:
    """Rows of four corners, score and class, the best first; of equal ones the first box, then the first class."""
    classes = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    every = np.broadcast_to(boxes, (*scores.shape, 4))
    good = (scores >= np.float32(told["score_threshold"])) & (classes != told["background_class"])
    rows = np.concatenate([every[good], scores[good][:, None], classes[good][:, None]], axis=1)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:TOP]
    groups = np.zeros(len(rows)) if told["class_agnostic"] else rows[:, 5]
    kept = [at for group in np.unique(groups) for at in _kept(rows, groups == group, told["iou_threshold"])]
    return rows[sorted(kept)]


def _kept(rows: Array, group: Array, threshold: float) -> Array:
    places = np.flatnonzero(group)
    rank = np.linspace(1, 0, len(places), dtype=np.float32)  # the order is settled: equal scores too
    below = np.nextafter(np.float32(threshold), np.float32(-1)).clip(0)  # the plugin drops from the threshold on
    feeds = {"boxes": rows[places, :4].astype(np.float32)[None], "scores": rank[None, None]}
    feeds |= {"most": np.asarray([len(places)], np.int64), "iou": np.asarray([below], np.float32)}
    (chosen,) = _session().run(None, feeds)
    kept: Array = places[chosen[:, 2]]
    return kept


@cache
def _session() -> ort.InferenceSession:
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["chosen"])
    kinds = {
        "boxes": TensorProto.FLOAT,
        "scores": TensorProto.FLOAT,
        "most": TensorProto.INT64,
        "iou": TensorProto.FLOAT,
    }
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    output = helper.make_tensor_value_info("chosen", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
