"""TFLite_Detection_PostProcess, TFLite's own end of SSD detectors, in float
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/detection_postprocess.cc).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgekit_postprocess.moving import MOST
from edgekit_postprocess.suppression import best, ranked

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


class _Rules(NamedTuple):
    """What is kept of boxes; ``each``: classes of one box."""

    score: Any
    overlap: Any
    most: int
    each: int
    per_class: int


def detection_postprocess(
    encodings: Array,
    scores: Array,
    anchors: Array,
    *,
    max_detections: int,
    max_classes_per_detection: int,
    nms_score_threshold: float,
    nms_iou_threshold: float,
    num_classes: int,
    y_scale: float,
    x_scale: float,
    h_scale: float,
    w_scale: float,
    detections_per_class: int = 100,
    use_regular_nms: int = 0,
) -> tuple[Array, ...]:
    """Boxes [1, n, 4] as ymin, xmin, ymax, xmax; classes and scores [1, n]; how many, [1]; all float32, the best score
    first, the rest 0; n is ``max_detections * max_classes_per_detection``.

    ``encodings`` [1, boxes, 4 or more], ``scores`` [1, boxes, classes, after the background where there is one more],
    ``anchors`` [boxes, 4] as y, x, height, width.
    """
    each, background = max_classes_per_detection, scores.shape[2] - num_classes
    if scores.shape[:2] != encodings.shape[:2] or anchors.shape != (scores.shape[1], 4) or background not in (0, 1):
        raise ValueError(f"boxes {encodings.shape}, scores {scores.shape} and anchors {anchors.shape}")
    if each < 1 or not 0 <= max_detections <= MOST // each // 4:
        raise ValueError(f"{max_detections} detections of {each} classes")
    boxes = _decoded(encodings[0], anchors, np.asarray([y_scale, x_scale, h_scale, w_scale]))
    table = scores[0, :, background:]
    least, limit = np.float32(nms_score_threshold), np.float32(nms_iou_threshold)
    rules = _Rules(least, limit, max_detections, each, detections_per_class)
    found = (_by_class if use_regular_nms else _by_box)(boxes, table, rules)
    given = [np.zeros((1, max_detections * each, *more), np.float32) for more in ((4,), (), ())]
    for row, at, label in found:
        for array, value in zip(given, (boxes[at], label, table[at, label])):
            array[0, row] = value
    count = len(found) if use_regular_nms else len({at for _, at, _ in found})
    return (*given, np.asarray([count], np.float32))


def _decoded(encodings: Array, anchors: Array, scales: Array) -> Array:
    """The corners. TFLite computes in double, and rounds each step to float."""
    anchors = anchors.astype(np.float64)
    centre = (encodings[:, :2] / scales[:2] * anchors[:, 2:] + anchors[:, :2]).astype(np.float32)
    half = (0.5 * np.exp(encodings[:, 2:4] / scales[2:]) * anchors[:, 2:]).astype(np.float32)
    return np.concatenate([centre - half, centre + half], axis=-1)


def _kept(boxes: Array, scores: Array, most: int, rules: _Rules) -> list[int]:
    good = ranked(scores, np.flatnonzero(scores >= rules.score))
    return best(boxes, good, most, lambda overlap: overlap > rules.overlap)


def _by_class(boxes: Array, table: Array, rules: _Rules) -> list[tuple[int, int, int]]:
    """Rows, boxes and classes; each class for itself."""
    found = [(at, c) for c in range(table.shape[1]) for at in _kept(boxes, table[:, c], rules.per_class, rules)]
    order = ranked(np.asarray([table[pair] for pair in found], np.float32), np.arange(len(found)))
    return [(row, *found[at]) for row, at in enumerate(order[: rules.most])]


def _by_box(boxes: Array, table: Array, rules: _Rules) -> list[tuple[int, int, int]]:
    """Boxes by their best class, with as many of their best classes as are asked for, and as many rows."""
    classes = np.argsort(-table, axis=1, kind="stable")[:, : rules.each]
    kept = _kept(boxes, table.max(axis=1), rules.most, rules)
    return [(rules.each * row + rank, at, int(c)) for row, at in enumerate(kept) for rank, c in enumerate(classes[at])]
