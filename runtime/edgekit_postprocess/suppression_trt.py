"""EfficientNMS_TRT, a plugin of TensorRT by which detectors end (NVIDIA/TensorRT, plugin/efficientNMSPlugin/README.md).

Where the plugin leaves the order of equal scores to chance, the first box, and of one box the first class, comes first.
A score below the threshold is never given, whatever the threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgekit_postprocess.moving import MOST
from edgekit_postprocess.suppression import around, best, ranked, sorted_corners

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

TOP = 4096
"""As many of the best scores are looked at."""


class _Rules(NamedTuple):
    """What is kept of the boxes of one image."""

    score: Any
    overlap: Any
    most: int
    background: int
    agnostic: bool


def efficient_nms(
    boxes: Array,
    scores: Array,
    anchors: Array | None = None,
    *,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
    max_output_boxes: int = 100,
    background_class: int = -1,
    score_activation: int = 0,
    class_agnostic: int = 0,
    box_coding: int = 0,
    plugin_version: str = "1",
    plugin_namespace: str = "",
) -> tuple[Array, ...]:
    """How many, int32 [images, 1]; boxes [images, most, 4] by their corners; scores, and classes, int32, both [images,
    most]; the best score first, the rest 0.

    ``boxes`` [images, n, 4] or [images, n, classes or 1, 4]; ``scores`` [images, n, classes], or with one more axis of
    1. The last two parameters choose among plugins, and there is one.
    """
    scores = scores.reshape(scores.shape[:3])
    boxes = boxes[:, :, None] if boxes.ndim == 3 else boxes
    _check(boxes, scores, max_output_boxes)
    boxes = _decoded(boxes, anchors, box_coding)
    values = 1 / (1 + np.exp(-scores)) if score_activation else scores
    least, limit = scores.dtype.type(score_threshold), np.float32(iou_threshold)
    rules = _Rules(least, limit, max_output_boxes, background_class, bool(class_agnostic))
    chosen = [_chosen(*image, rules) for image in zip(boxes, values)]
    counts = np.asarray([len(each[1]) for each in chosen], np.int32).reshape(-1, 1)
    return counts, *(_padded([each[part] for each in chosen], max_output_boxes) for part in range(3))


def _check(boxes: Array, scores: Array, most: int) -> None:
    (images, count, classes), near = scores.shape, boxes.shape
    if near[:2] != (images, count) or near[2] not in (1, classes) or near[3:] != (4,):
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape}")
    if not 0 <= most <= MOST // max(images * 4, 1):
        raise ValueError(f"max_output_boxes is {most}")


def _decoded(boxes: Array, anchors: Array | None, coding: int) -> Array:
    """By their corners, [images, n, classes or 1, 4]."""
    if coding not in (0, 1):
        raise ValueError(f"box_coding is {coding}")
    if anchors is not None:
        near = anchors[:, :, None]
        boxes = sorted_corners(boxes) + sorted_corners(near) if coding == 0 else _scaled(boxes, near)
    return boxes if coding == 0 else around(boxes)


def _scaled(boxes: Array, anchors: Array) -> Array:
    centre, size = anchors[..., :2], anchors[..., 2:]
    return np.concatenate([boxes[..., :2] * size + centre, size * np.exp(boxes[..., 2:])], axis=-1)


def _chosen(boxes: Array, scores: Array, rules: _Rules) -> tuple[Array, Array, Array]:
    """Boxes [n, 4], scores and classes [n] of one image, of ``boxes`` [boxes, classes or 1, 4]."""
    good = np.argwhere(scores >= rules.score)
    good = good[good[:, 1] != rules.background]
    found = scores[good[:, 0], good[:, 1]]
    order = ranked(found, np.arange(len(good)))[:TOP]
    box, label = good[order].T
    corners = boxes[box, label if boxes.shape[1] > 1 else 0]
    among = None if rules.agnostic else label
    kept = best(
        sorted_corners(corners), np.arange(len(order)), rules.most, lambda overlap: overlap >= rules.overlap, among
    )
    return corners[kept], found[order][kept], label[kept].astype(np.int32)


def _padded(rows: list[Array], most: int) -> Array:
    """[images, most, …]"""
    whole = [np.concatenate([each, np.zeros((most - len(each), *each.shape[1:]), each.dtype)]) for each in rows]
    return np.stack(whole)
