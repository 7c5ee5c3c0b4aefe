"""Suppression: of boxes that overlap, the one with the best score stays; as ONNX's NonMaxSuppression says it
(https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html).

Arithmetic is float32 in the order of onnxruntime's kernel, so that a box on the edge of a threshold falls alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def non_max_suppression(
    boxes: Array,
    scores: Array,
    max_output_boxes_per_class: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
    *,
    center_point_box: int = 0,
) -> Array:
    """Rows of image, class and box, int64 [n, 3]; by image and class, the best score first, then the first box.

    ``boxes`` [images, n, 4] as y1, x1, y2, x2 in any order of corners, or x, y, width, height around the centre;
    ``scores`` [images, classes, n].
    """
    most, limit = int(_number(max_output_boxes_per_class, 0)), np.float32(_number(iou_threshold, 0))
    least = np.float32(_number(score_threshold, -np.inf))
    if not 0 <= limit <= 1:
        raise ValueError(f"iou_threshold is {limit}")
    if boxes.shape[0] != scores.shape[0] or boxes.shape[1:] != (scores.shape[2], 4):
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape}")
    rows = []
    for image, each in enumerate(around(boxes) if center_point_box else sorted_corners(boxes)):
        for label, column in enumerate(scores[image] if most > 0 else ()):
            good = np.arange(column.size) if score_threshold is None else np.flatnonzero(column > least)
            kept = best(each, ranked(column, good), most, lambda overlap: overlap > limit)
            rows += [(image, label, box) for box in kept]
    return np.asarray(rows, np.int64).reshape(-1, 3)


def best(
    boxes: Array, order: Array, most: int, too_near: Callable[[Array], Array], among: Array | None = None
) -> list[int]:
    """At most so many of the boxes [n, 4] in that order, none of which overlaps too much with one before it; only with
    one ``among`` the same class where classes [n] are given.
    """
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first, order = order[0], order[1:]
        kept.append(int(first))
        near = too_near(overlaps(boxes[first], boxes[order]))
        order = order[~near if among is None else ~near | (among[order] != among[first])]
    return kept


def ranked(scores: Array, places: Array) -> Array:
    """The places by their scores, the best first; of equal ones the first."""
    result: Array = places[np.argsort(-scores[places], kind="stable")]
    return result


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of one box with others, by their sorted corners; 0 for one that is empty."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = high - low
    common = sides[:, 1] * sides[:, 0]
    own, theirs = ((each[..., 3] - each[..., 1]) * (each[..., 2] - each[..., 0]) for each in (box, others))
    union = own + theirs - common
    real = (sides > 0).all(axis=1) & (common > 0) & (own > 0) & (theirs > 0) & (union > 0)
    result: Array = np.where(real, common / np.where(real, union, 1), 0)
    return result


def around(boxes: Array) -> Array:
    """The corners of boxes [..., 4] that are given by their centres and sizes."""
    half = boxes[..., 2:] / np.asarray(2, boxes.dtype)
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def sorted_corners(boxes: Array) -> Array:
    """Both smaller ends of boxes [..., 4], then both larger ones."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def _number(array: Array | None, otherwise: float) -> Any:
    """The one number of an array of shape [] or [1]."""
    return otherwise if array is None else array.reshape(()).item()
