"""Compare the outputs of two runs of a model: how far apart, and whether they say the same."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

Array = np.ndarray
Outputs = Dict[str, "Array[Any, Any]"]

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

    Class scores are outputs of shape [N, classes]; others agree from a cosine similarity of SAME_DIRECTION on.
    """
    return all(_same(array, have.get(name)) for name, array in want.items())


@np.errstate(invalid="ignore", over="ignore")
def _same(want: Array[Any, Any], have: Array[Any, Any] | None) -> bool:
    if have is None or want.shape != have.shape:
        return False
    if want.ndim == 2 and want.shape[1] > 1:
        return bool(np.array_equal(want.argmax(1), have.argmax(1)))
    a, b = want.astype(np.float64).ravel(), have.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return bool(a @ b >= SAME_DIRECTION * norms) if norms else bool(np.array_equal(a, b))
