"""Compare the outputs of two runs of a model: how far apart, and whether they say the same."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

Array = np.ndarray
Outputs = Dict[str, "Array[Any, Any]"]

UNEVEN = 16.0
"""From this ratio on, between the largest and the smallest column, an output is of mixed scales: boxes and scores."""
FAINT = 1e-4
"""A column smaller than this share of the largest is taken for that share: it holds next to nothing."""
SAME_DIRECTION = 0.99
"""The least cosine similarity at which outputs that are no class scores count as the same."""


@np.errstate(invalid="ignore")  # infinity less infinity
def max_abs_error(want: Outputs, have: Outputs) -> float:
    """The largest absolute difference over all outputs; infinite for another shape or no number."""
    worst = 0.0
    for name, array in want.items():
        other = have.get(name)
        if other is None or other.shape != array.shape:
            return float("inf")
        difference = float(np.max(np.abs(array.astype(np.float64) - other.astype(np.float64)), initial=0.0))
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def same_answer(want: Outputs, have: Outputs) -> bool:
    """Whether two sets of outputs say the same: the same class for class scores, else close in direction.

    Class scores are outputs of shape [N, classes]; others, balanced, agree from a cosine similarity of SAME_DIRECTION
    on.
    """
    return all(_same(array, have.get(name)) for name, array in want.items())


@np.errstate(invalid="ignore", over="ignore")
def _same(want: Array[Any, Any], have: Array[Any, Any] | None) -> bool:
    if have is None or want.shape != have.shape:
        return False
    if want.ndim == 2 and want.shape[1] > 1:
        return bool(np.array_equal(want.argmax(1), have.argmax(1)))
    a, b = (array.ravel() for array in balance(want, have))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return bool(a @ b >= SAME_DIRECTION * norms) if norms else bool(np.array_equal(a, b))


def balance(want: Array[Any, Any], have: Array[Any, Any]) -> tuple[Array[Any, Any], Array[Any, Any]]:
    """Both as float64; where columns of a third-order ``want`` or higher differ in scale, each divided by its own.

    Columns lie along the second or the last axis, whichever is more uneven. A scale is a root mean square.
    """
    a, b = want.astype(np.float64), have.astype(np.float64)
    scales = [column_scales(a, axis) for axis in (1, -1)] if a.ndim > 2 and a.size else []
    uneven = max(scales, key=lambda each: float(each.max() / each.min()), default=None)
    if uneven is None or not uneven.max() / uneven.min() >= UNEVEN:
        return a, b
    return a / uneven, b / uneven


def column_scales(array: Array[Any, Any], axis: int) -> Array[Any, Any]:
    """The root mean square of each column along an axis, of size 1 along the others; faint ones raised."""
    others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
    scales = np.sqrt(np.mean(array * array, axis=others, keepdims=True))
    floored: Array[Any, Any] = np.maximum(scales, max(float(scales.max()) * FAINT, 1e-30))
    return floored
