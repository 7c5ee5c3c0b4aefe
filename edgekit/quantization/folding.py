"""Folding: normalization that disappears into a quantized model, so that a device feeds raw pixels.

A quantized input stands for ``(q - zero_point) * step``, normalization makes ``(p * scale - mean) / std`` of a pixel.
The two are one where step is ``scale / std`` and the zero point ``mean / scale``, which an 8-bit range over just the
values that pixels can have gives, rounded to a whole zero point: at most half a step of constant shift.

An input has one step and one zero point for all colours. Where each has a mean and a scale of its own, the input gets
those of a mean colour, and what is left of each, ``Rest``, goes into the weights of the first layers
(``passes.fold_colours``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.quantization.bias import Array, shift
from edgekit.quantization.calibration import Range
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

TOP = 255
COLOURS = "fold-colours"
"""In the lineage of a model whose weights have taken up what colours differ by."""
SPREAD = 2.0
"""How many times as large as another a colour's scale may be: beyond, its weights take a bit from those of others."""


@dataclass(frozen=True)
class Rest:
    """What a model wants is ``factor * x + offset`` of the evened x; one of each for a colour."""

    factor: Array
    offset: Array


def pixel_range(step: Preprocess) -> Range | None:
    """The values that pixels become, where they all become the same ones: one scale, zero among them."""
    if step.dtype != "uint8" or len({*step.mean}) != 1 or len({*step.std}) != 1 or step.scale <= 0:
        return None
    low, high = (-step.mean[0] / step.std[0], (TOP * step.scale - step.mean[0]) / step.std[0])
    return (low, high) if low <= 0 <= high else None


def evened(step: Preprocess) -> Preprocess | None:
    """With one mean and one scale in place of several; None where they are one, or too far from each other.

    The mean is that of a whole pixel, so that the zero point is exact, and leaves the least squared offsets: they are
    what a layer that pads its input with zeros misses at the border.
    """
    mean, std = _colours(step)
    if pixel_range(step) or step.scale <= 0 or std.min() <= 0 or std.max() > SPREAD * std.min():
        return None
    pixel = float(np.rint(np.average(mean / step.scale, weights=std**-2.0)))
    even = replace(step, mean=(pixel * step.scale,), std=(float(std.mean()),))
    return even if pixel_range(even) else None


def rest(step: Preprocess, even: Preprocess) -> Rest:
    """What is left to do after ``even`` for what ``step`` does."""
    mean, std = _colours(step)
    return Rest(even.std[0] / std, (even.mean[0] - mean) / std)


def into(weights: Array, remains: Rest) -> tuple[Array, Array] | None:
    """A convolution's weights [outputs, inputs of a group, ...], and what its bias gains; None for no fit."""
    change = shift(weights.sum(axis=tuple(range(2, weights.ndim))), remains.offset)
    if change is None:
        return None
    outputs, inputs = weights.shape[:2]
    groups = remains.factor.size // inputs
    factors = np.repeat(remains.factor.reshape(groups, inputs), outputs // groups, axis=0)
    return weights * factors.reshape(outputs, inputs, *[1] * (weights.ndim - 2)), change


def moved(axis: int, order: Sequence[int] | None) -> int:
    """Where an axis is after a transposition; -1 where that is not told."""
    return list(order).index(axis) if order is not None and axis in order else -1


def steps(declared: Mapping[str, Preprocess], lineage: Sequence[str]) -> dict[str, Preprocess]:
    """What a model of this lineage has done before it, of what was declared for its source."""
    if COLOURS not in lineage:
        return dict(declared)
    return {name: evened(step) or step for name, step in declared.items()}


def left(steps: Mapping[str, Preprocess], specs: Iterable[TensorSpec]) -> dict[str, Preprocess]:
    """What still has to be done for inputs of these dtypes: no normalization where pixels are taken as they are."""
    taken = {spec.name: spec.dtype for spec in specs}
    return {name: _raw(step, taken.get(name, "")) for name, step in steps.items()}


def _raw(step: Preprocess, dtype: str) -> Preprocess:
    """LiteRT's pixels are signed: 128 less."""
    if dtype not in ("uint8", "int8") or pixel_range(step) is None:
        return step
    return replace(step, scale=1.0, mean=(0.0 if dtype == "uint8" else 128.0,), std=(1.0,))


def _colours(step: Preprocess) -> tuple[Array, Array]:
    """Means and scales, as many of one as of the other."""
    mean, std = np.broadcast_arrays(np.array(step.mean), np.array(step.std))
    return mean, std
