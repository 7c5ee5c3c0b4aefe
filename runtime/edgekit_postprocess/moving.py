"""Operators of ONNX that move numbers about, or make new ones by sizes alone; see ``operators``."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Tuple, Union

import numpy as np

from edgekit_runtime.tensors import DTYPES

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

Sizes = Union["Array", Tuple[int, ...], int, None]

MOST = 1 << 24
"""Numbers that one array may hold by sizes that others wrote."""


def whole(sizes: Sizes) -> tuple[int, ...]:
    return tuple(int(size) for size in np.atleast_1d(np.asarray(sizes, np.int64)))


def axes_of(axes: Sizes, rank: int) -> tuple[int, ...]:
    """Counted from 0; all where none are given."""
    return tuple(range(rank)) if axes is None else tuple(axis % rank for axis in whole(axes))


def dtype_of(word: str) -> Any:
    if word not in DTYPES:
        raise ValueError(f"{word!r} is no dtype")
    return np.dtype(word)


def reshape(x: Array, shape: Sizes, *, allowzero: int = 0) -> Any:
    sizes = whole(shape)
    return x.reshape([x.shape[at] if size == 0 and not allowzero else size for at, size in enumerate(sizes)])


def flatten(x: Array, *, axis: int = 1) -> Any:
    at = axis + x.ndim if axis < 0 else axis
    return x.reshape(prod(x.shape[:at]), prod(x.shape[at:]))


def squeeze(x: Array, axes: Sizes = None) -> Any:
    chosen = tuple(at for at, size in enumerate(x.shape) if size == 1) if axes is None else axes_of(axes, x.ndim)
    return x.squeeze(chosen)


def unsqueeze(x: Array, axes: Sizes) -> Any:
    new = axes_of(axes, x.ndim + len(whole(axes)))
    if len(set(new)) < len(new):
        raise ValueError(f"the axes {new}")
    sizes = iter(x.shape)
    return x.reshape([1 if at in new else next(sizes) for at in range(x.ndim + len(new))])


def transpose(x: Array, *, perm: Sizes = None) -> Any:
    return x.transpose(None if perm is None else whole(perm))


def concat(*arrays: Array, axis: int) -> Any:
    check_room(sum(array.size for array in arrays))
    return np.concatenate(arrays, axis)


def split(x: Array, split: Sizes = None, *, axis: int = 0, num_outputs: int = 1) -> Any:
    """Equal parts, of which the last may be smaller, unless sizes are given."""
    if not 0 < num_outputs <= x.size + 1:
        raise ValueError(f"{num_outputs} parts")
    part = -(-x.shape[axis] // num_outputs)
    sizes = [part] * (num_outputs - 1) if split is None else whole(split)[:-1]
    return tuple(np.split(x, np.cumsum(sizes), axis))


def sliced(x: Array, starts: Sizes, ends: Sizes, axes: Sizes = None, steps: Sizes = None) -> Any:
    begins = whole(starts)
    chosen = tuple(range(len(begins))) if axes is None else axes_of(axes, x.ndim)
    by = (1,) * len(begins) if steps is None else whole(steps)
    parts = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(chosen, begins, whole(ends), by):
        parts[axis] = _part(begin, end, step, x.shape[axis])
    return x[tuple(parts)]


def _part(begin: int, end: int, step: int, size: int) -> slice:
    """Backwards, ONNX begins within the axis, where Python may begin before it."""
    if step > 0:
        return slice(begin, end, step)
    first, last = (at + size if at < 0 else at for at in (begin, end))
    return slice(min(max(first, 0), size - 1), last if last >= 0 else None, step)


def gather(x: Array, indices: Array, *, axis: int = 0) -> Any:
    check_room(*x.shape[:axis], *x.shape[axis % x.ndim + 1 :], *indices.shape)
    return np.take(x, indices, axis)


def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Any:
    axis %= x.ndim
    near = x[tuple(slice(None) if at == axis else slice(size) for at, size in enumerate(indices.shape))]
    return np.take_along_axis(near, indices, axis)


def gather_nd(x: Array, indices: Array, *, batch_dims: int = 0) -> Any:
    inner = x.shape[batch_dims + indices.shape[-1] :]
    check_room(*indices.shape[:-1], *inner)
    if not batch_dims:
        return x[tuple(np.moveaxis(indices, -1, 0))]
    batch = x.shape[:batch_dims]
    rows = [x[at][tuple(np.moveaxis(indices[at], -1, 0))] for at in np.ndindex(*batch)]
    return np.reshape(rows, (*indices.shape[:-1], *inner)).astype(x.dtype)


def expand(x: Array, shape: Sizes) -> Any:
    check_room(*whole(shape), x.size)
    wanted = np.broadcast(x, np.broadcast_to(np.zeros(()), whole(shape))).shape
    return np.broadcast_to(x, wanted)


def tile(x: Array, repeats: Sizes) -> Any:
    check_room(*whole(repeats), x.size)
    return np.tile(x, whole(repeats))


def pad(x: Array, pads: Sizes, value: Array | float = 0.0, axes: Sizes = None, *, mode: str = "constant") -> Any:
    if mode != "constant":
        raise ValueError(f"mode {mode!r}")
    chosen, widths = axes_of(axes, x.ndim), whole(pads)
    around = [(0, 0)] * x.ndim
    for at, axis in enumerate(chosen):
        around[axis] = (widths[at], widths[at + len(chosen)])
    check_room(*(size + sum(pair) for size, pair in zip(x.shape, around)))
    return np.pad(x, around, constant_values=np.asarray(value, x.dtype).reshape(()))


def ranged(start: Array, limit: Array, delta: Array) -> Any:
    first, end, step = (array.reshape(()).item() for array in (start, limit, delta))
    count = max(0, int(np.ceil((end - first) / step)))
    check_room(count)
    return (start.reshape(()) + np.arange(count) * delta.reshape(())).astype(start.dtype)


def filled(shape: Array, *, value: float = 0.0, dtype: str = "float32") -> Any:
    """ConstantOfShape, its tensor attribute taken apart."""
    check_room(*whole(shape))
    return np.full(whole(shape), value, dtype_of(dtype))


def shape(x: Array, *, start: int = 0, end: int | None = None) -> Any:
    return np.asarray(x.shape[start:end], np.int64)


def check_room(*sizes: int) -> None:
    """Raises: ValueError for an array of these sizes that would hold more than MOST numbers."""
    count = 1
    for size in sizes:
        count *= int(size)
    if count > MOST:
        raise ValueError(f"an array of {count} numbers")
