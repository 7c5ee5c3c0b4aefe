"""Compare the outputs of two runs of a model: how far apart, and whether they say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping

import numpy as np

from edgekit_runtime.agreement import Agreement
from edgekit_runtime.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgekit_postprocess.detections import Detections

Array = np.ndarray
Outputs = Dict[str, "Array[Any, Any]"]
Agreements = Mapping[str, Agreement]
"""By output; an output without one is judged by its shape."""

UNEVEN = 16.0
"""From this ratio on, between the largest and the smallest column, an output is of mixed scales: boxes and scores."""
FAINT = 1e-4
"""A column smaller than this share of the largest is taken for that share: it holds next to nothing."""
SAME_DIRECTION = 0.99
"""The least cosine similarity at which outputs that are no class scores count as the same."""
SAME_DISTRIBUTION = 0.08
"""Nats of divergence up to which distributions count as the same: no probability, of a class or of several together, is
then off by more than 0.2 (Pinsker's inequality: by at most the root of half the divergence)."""
SAME_OBJECTS = 0.9
"""The least F1 at which detections count as the same: one of six objects may be missing, of fewer none."""
TOLERANCE = 0.01
"""How far from 1 the probabilities that are wanted may add up to."""
LEAST = 1e-4
"""The least probability that counts: 8 bits tell 1/256."""
UNDECLARED: Agreements = {}


@np.errstate(invalid="ignore", over="ignore")  # infinity less infinity
def max_abs_error(want: Outputs, have: Outputs, agreements: Agreements = UNDECLARED) -> float:
    """The largest absolute difference over all outputs; infinite for another shape or no number.

    Of boxes it is that between objects that both found: how many there are, and in which order, may differ.
    Raises: EngineError when ``want`` is not as declared.
    """
    return max((_distance(name, want, have, how) for name, how in judged(want, agreements)), default=0.0)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def same_answer(want: Outputs, have: Outputs, agreements: Agreements = UNDECLARED) -> bool:
    """Whether two sets of outputs say the same, in each output by the agreement that is declared for it.

    Where none is: the same class for class scores, which are of shape [N, classes]; others, balanced, agree from a
    cosine similarity of SAME_DIRECTION on. Raises: EngineError when ``want`` is not as declared.
    """
    return all(_same(name, want, have, how) for name, how in judged(want, agreements))


def judged(want: Outputs, agreements: Agreements) -> Iterator[tuple[str, Agreement]]:
    """The outputs that are judged by themselves, and how. Raises: EngineError for one that is not there."""
    taken = {name for how in agreements.values() for name in how.takes}
    for name in {**agreements, **dict.fromkeys(taken)}:
        if name not in want:
            raise EngineError(f"the model has no output {name!r}", f"it has {', '.join(want)}")
    for name, array in want.items():
        if name not in taken:
            yield name, agreements.get(name) or Agreement("top1" if _of_classes(array) else "cosine")


def _of_classes(array: Array[Any, Any]) -> bool:
    return array.ndim == 2 and array.shape[1] > 1


def _distance(name: str, want: Outputs, have: Outputs, how: Agreement) -> float:
    if not all(_is_number(have.get(each)) for each in (name, *how.takes)):
        return float("inf")
    if how.by == "none":
        return 0.0
    if how.by == "boxes":
        from edgekit_postprocess.detections import largest_difference

        both = _both(name, want, have, how)
        return largest_difference(*both) if both else float("inf")
    a, b = want[name].astype(np.float64), have[name].astype(np.float64)
    difference = float(np.max(np.abs(a - b), initial=0.0)) if a.shape == b.shape else float("inf")
    return difference if np.isfinite(difference) else float("inf")


def _is_number(array: Array[Any, Any] | None) -> bool:
    return array is not None and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))


def _same(name: str, want: Outputs, have: Outputs, how: Agreement) -> bool:
    if how.by == "none":
        return name in have
    if how.by == "boxes":
        from edgekit_postprocess.detections import f1

        both = _both(name, want, have, how)
        return both is not None and f1(*both) >= SAME_OBJECTS
    a, b = want[name], have.get(name)
    if b is None or a.shape != b.shape:
        return False
    if how.by == "cosine":
        return _same_direction(a, b)
    if not -a.ndim <= how.axis < a.ndim:
        raise EngineError(f"output {name!r} of shape {a.shape} has no axis {how.axis}", f"see agreement.{name}")
    a, b = (np.moveaxis(each, how.axis, -1) for each in (a, b))
    if how.by == "kl":
        return divergence(a, b) <= SAME_DISTRIBUTION
    return not a.size or np.array_equal(a.argmax(-1), b.argmax(-1))


def _both(name: str, want: Outputs, have: Outputs, how: Agreement) -> tuple[Detections, Detections] | None:
    """What both found; None where ``have`` is not as declared."""
    from edgekit_postprocess.detections import read

    wanted = read(want, name, how)
    try:
        return wanted, read(have, name, how)
    except EngineError:
        return None


def _same_direction(want: Array[Any, Any], have: Array[Any, Any]) -> bool:
    a, b = (array.ravel() for array in balance(want, have))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return bool(a @ b >= SAME_DIRECTION * norms) if norms else bool(np.array_equal(a, b))


def divergence(want: Array[Any, Any], have: Array[Any, Any]) -> float:
    """The mean Kullback-Leibler divergence from ``want``, in nats, of distributions along the last axis.

    Rows of ``want`` that add up to 1 are probabilities, others are taken for logits, and so are those of ``have``;
    infinite for what is no number.
    """
    p, q = want.astype(np.float64), have.astype(np.float64)
    if not (np.isfinite(p).all() and np.isfinite(q).all()):
        return float("inf")
    if not p.size:
        return 0.0
    if (p < 0).any() or (np.abs(p.sum(axis=-1) - 1) > TOLERANCE).any():
        p, q = (np.exp(each - each.max(axis=-1, keepdims=True)) for each in (p, q))
    p, q = (_whole(each) for each in (p, q))
    return float(np.mean(np.sum(p * np.log(p / q), axis=-1)))


def _whole(probabilities: Array[Any, Any]) -> Array[Any, Any]:
    """They add up to 1, and none is quite 0."""
    x = np.maximum(probabilities, LEAST)
    x = np.maximum(x / x.sum(axis=-1, keepdims=True), LEAST)
    result: Array[Any, Any] = x / x.sum(axis=-1, keepdims=True)
    return result


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
