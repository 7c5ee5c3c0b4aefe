"""Detections: the objects that a model's outputs say are in an image, and how far two such answers are the same.

Boxes of one class that overlap by half (intersection over union, as in M. Everingham et al., The PASCAL Visual Object
Classes Challenge, IJCV 2010) are one object: the one with the best score stays of each model's own, whether or not the
model suppresses others itself, and by the same measure it is the object that the other model found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit_postprocess.suppression import around, best, overlaps, ranked
from edgekit_runtime.errors import EngineError

if TYPE_CHECKING:
    from edgekit_runtime.agreement import Agreement

    Array = np.ndarray[Any, Any]

SAME_OBJECT = 0.5
MOST = 1000
"""So many boxes, those with the best scores, are looked at."""


@dataclass(frozen=True)
class Detections:
    """The best first: ``boxes`` [n, 4] as left, top, right, bottom, in the output's unit; ``scores``, ``classes`` [n]
    as floats.
    """

    boxes: Array
    scores: Array
    classes: Array


def read(outputs: dict[str, Array], name: str, how: Agreement) -> Detections:
    """The objects of one image, from the output of that name and those that it takes.

    Raises: EngineError when they are not as declared.
    """
    try:
        boxes, scores, classes = _apart(outputs, name, how) if how.scores else _beside(outputs[name], how)
    except (KeyError, ValueError) as error:
        raise EngineError(f"output {name!r} holds no boxes as declared: {error}", f"see agreement.{name}") from error
    # numbers of classes that were quantized are no longer whole
    return _objects(_corners(boxes, how.corners), scores, np.rint(classes), how.min_score)


def pairs(want: Detections, have: Detections) -> Array:
    """Which objects are the same: rows of places in ``want`` and ``have``, the best of ``have`` first to choose."""
    found, free = [], np.ones(len(want.scores), bool)
    for place, (box, label) in enumerate(zip(have.boxes, have.classes)):
        shares = overlaps(box, want.boxes) * (free & (want.classes == label))
        if shares.size and shares.max() >= SAME_OBJECT:
            found.append((int(shares.argmax()), place))
            free[found[-1][0]] = False
    return np.asarray(found, np.intp).reshape(-1, 2)


def f1(want: Detections, have: Detections) -> float:
    """Twice the pairs over all objects of both; 1 where neither has any."""
    count = len(want.scores) + len(have.scores)
    return 2 * len(pairs(want, have)) / count if count else 1.0


def largest_difference(want: Detections, have: Detections) -> float:
    """Of a coordinate or a score, between objects that are the same."""
    a, b = pairs(want, have).T
    boxes, scores = want.boxes[a] - have.boxes[b], want.scores[a] - have.scores[b]
    return max(float(np.max(np.abs(each), initial=0.0)) for each in (boxes, scores))


def _objects(boxes: Array, scores: Array, classes: Array, least: float) -> Detections:
    """Boxes of some size that score at least so much, without those that a better one of their class stands for."""
    sides = boxes[:, 2:] - boxes[:, :2]
    real = np.flatnonzero((scores >= least) & (sides > 0).all(axis=1) & (np.prod(sides, axis=1) > 0))
    kept = best(boxes, ranked(scores, real)[:MOST], MOST, lambda shares: shares >= SAME_OBJECT, classes)
    return Detections(boxes[kept], scores[kept], classes[kept])


def _corners(boxes: Array, written: str) -> Array:
    if written == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if written == "xyxy":
        return boxes
    if written == "cxcywh":
        return around(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _apart(outputs: dict[str, Array], name: str, how: Agreement) -> tuple[Array, Array, Array]:
    """Boxes, scores and classes of several outputs."""
    boxes = _table(outputs[name])
    boxes = boxes.T if boxes.shape[1] != 4 and boxes.shape[0] == 4 else boxes
    if boxes.shape[1] != 4:
        raise ValueError(f"its shape is {outputs[name].shape}")
    scores = outputs[how.scores].astype(np.float64)
    if scores.size != len(boxes):
        table = _table(scores)
        return (boxes, *_highest(_sized(table if len(table) == len(boxes) else table.T, len(boxes), how.scores)))
    classes = outputs[how.classes].astype(np.float64) if how.classes else np.zeros(len(boxes))
    return boxes, scores.ravel(), _sized(classes.ravel(), len(boxes), how.classes)


def _beside(output: Array, how: Agreement) -> tuple[Array, Array, Array]:
    """Boxes, scores and classes of one output: of six columns, or of the axis that is shorter than there are boxes."""
    table, least = _table(output), 4 + how.columns.count(",") + 1
    fixed = how.columns == "score, class"
    rows, columns = table.shape
    across = columns != least and rows == least if fixed else least <= rows < columns
    table = table.T if across else table
    if table.shape[1] < least or (fixed and table.shape[1] > least):
        raise ValueError(f"its shape is {output.shape}")
    if fixed:
        return table[:, :4], table[:, 4], table[:, 5]
    scores, classes = _highest(table[:, least - 1 :])
    return table[:, :4], scores * table[:, 4] if "object" in how.columns else scores, classes


def _highest(scores: Array) -> tuple[Array, Array]:
    """The best score of each row, and whose it is."""
    if not scores.size:
        return np.zeros(len(scores)), np.zeros(len(scores))
    return scores.max(axis=1), scores.argmax(axis=1)


def _table(array: Array) -> Array:
    """As float64 of two axes, without a batch of one. Raises: ValueError for more than one image."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ValueError(f"its shape is {array.shape}, where one image is expected")
    return array.astype(np.float64)


def _sized(array: Array, rows: int, name: str) -> Array:
    if len(array) != rows:
        raise ValueError(f"{name!r} has {len(array)} rows for {rows} boxes")
    return array
