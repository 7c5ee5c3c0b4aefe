"""Operators of ONNX in numpy: those that stand around the suppression of boxes at the end of exported detectors.

Each means what https://onnx.ai/onnx/operators says. What older operator sets give as attributes (axes, k, split) may be
given so, by the name of the input that it has become. What others wrote makes no array of more than ``moving.MOST``
numbers: ValueError instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from edgekit_postprocess import moving
from edgekit_postprocess.moving import axes_of, check_room, dtype_of, whole
from edgekit_postprocess.suppression import non_max_suppression
from edgekit_postprocess.suppression_tflite import detection_postprocess
from edgekit_postprocess.suppression_trt import efficient_nms

if TYPE_CHECKING:
    from edgekit_postprocess.moving import Sizes

    Array = np.ndarray[Any, Any]

Operator = Callable[..., Any]


def _each(function: Operator) -> Operator:
    """Number by number, for arrays that may have other shapes."""

    def apply(x: Array, *others: Array) -> Any:
        check_room(*np.broadcast(x, *others).shape)
        return function(x, *others)

    return apply


def _one(function: Operator) -> Operator:
    return lambda x: function(x)


def _two(function: Operator) -> Operator:
    checked = _each(function)
    return lambda a, b: checked(a, b)


def _several(function: Operator) -> Operator:
    checked = _each(function)

    def apply(first: Array, *others: Array) -> Any:
        for other in others:
            first = checked(first, other)
        return first

    return apply


def _divide(a: Array, b: Array) -> Any:
    """Integers are rounded towards zero."""
    if a.dtype.kind not in "iu":
        return a / b
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)


def _mod(a: Array, b: Array, *, fmod: int = 0) -> Any:
    return _each(np.fmod if fmod else np.mod)(a, b)


def _clip(x: Array, min: Array | float | None = None, max: Array | float | None = None) -> Any:
    low = x if min is None else np.maximum(x, np.asarray(min, x.dtype))
    return low if max is None else np.minimum(low, np.asarray(max, x.dtype))


def _where(condition: Array, x: Array, y: Array) -> Any:
    return _each(np.where)(condition, x, y)


def _cast(x: Array, *, to: str, saturate: int = 1) -> Any:
    """``to`` is numpy's word; saturation is a matter of float8."""
    return x.astype(dtype_of(to))


def _top_k(x: Array, k: Sizes, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> Any:
    """Of equal values the first comes first; sorted whether or not that is asked for."""
    (count,) = whole(k)
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"the best {count} of {x.shape[axis]}")
    if largest:  # a stable order of the numbers from behind, and that from behind
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    best = np.take(order, np.arange(count), axis).astype(np.int64)
    return np.take_along_axis(x, best, axis), best


def _arg(function: Operator) -> Operator:
    def apply(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        at = function(np.flip(x, axis) if select_last_index else x, axis)
        at = np.asarray(x.shape[axis] - 1 - at if select_last_index else at, np.int64)
        return np.expand_dims(at, axis % x.ndim) if keepdims else at

    return apply


def _reduce(function: Operator) -> Operator:
    def apply(x: Array, axes: Sizes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        if noop_with_empty_axes and (axes is None or not whole(axes)):
            return x
        chosen = axes_of(None if axes is None or not whole(axes) else axes, x.ndim)
        return function(x, axis=chosen, keepdims=bool(keepdims)).astype(x.dtype)

    return apply


def _non_zero(x: Array) -> Any:
    return np.asarray(np.nonzero(np.atleast_1d(x)), np.int64)


def _sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


OPERATORS: dict[str, Operator] = {
    **{name: _one(function) for name, function in (("Abs", np.abs), ("Ceil", np.ceil), ("Exp", np.exp))},
    **{name: _one(function) for name, function in (("Floor", np.floor), ("Neg", np.negative), ("Sqrt", np.sqrt))},
    **{name: _one(function) for name, function in (("Log", np.log), ("Not", np.logical_not), ("Sigmoid", _sigmoid))},
    **{name: _two(function) for name, function in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply))},
    **{name: _two(function) for name, function in (("Div", _divide), ("And", np.logical_and), ("Or", np.logical_or))},
    **{name: _two(function) for name, function in (("Equal", np.equal), ("Less", np.less), ("Greater", np.greater))},
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": moving.concat,
    "ConstantOfShape": moving.filled,
    "EfficientNMS_TRT": efficient_nms,
    "Expand": moving.expand,
    "Flatten": moving.flatten,
    "Gather": moving.gather,
    "GatherElements": moving.gather_elements,
    "GatherND": moving.gather_nd,
    "GreaterOrEqual": _two(np.greater_equal),
    "Identity": _one(lambda x: x),
    "LessOrEqual": _two(np.less_equal),
    "Max": _several(np.maximum),
    "Min": _several(np.minimum),
    "Mod": _mod,
    "NonMaxSuppression": non_max_suppression,
    "NonZero": _non_zero,
    "Pad": moving.pad,
    "Range": moving.ranged,
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceSum": _reduce(np.sum),
    "Reshape": moving.reshape,
    "Shape": moving.shape,
    "Size": _one(lambda x: np.asarray(x.size, np.int64)),
    "Slice": moving.sliced,
    "Split": moving.split,
    "Squeeze": moving.squeeze,
    "TFLite_Detection_PostProcess": detection_postprocess,
    "Tile": moving.tile,
    "TopK": _top_k,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.unsqueeze,
    "Where": _where,
}
"""By ONNX's names, and those of two operators that are TensorRT's and TFLite's."""
