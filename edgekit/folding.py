"""Folding: normalization that disappears into the quantization of an input, so that a device feeds raw pixels.

A quantized input stands for ``(q - zero_point) * step``, normalization makes ``(p * scale - mean) / std`` of a pixel.
The two are one where step is ``scale / std`` and the zero point ``mean / scale``, which an 8-bit range over just the
values that pixels can have gives, rounded to a whole zero point: at most half a step of constant shift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edgekit.calibration import Range
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

TOP = 255


def pixel_range(step: Preprocess) -> Range | None:
    """The values that pixels become, where they all become the same ones: one scale, zero among them."""
    if step.dtype != "uint8" or len({*step.mean}) != 1 or len({*step.std}) != 1 or step.scale <= 0:
        return None
    low, high = (-step.mean[0] / step.std[0], (TOP * step.scale - step.mean[0]) / step.std[0])
    return (low, high) if low <= 0 <= high else None


def left(steps: Mapping[str, Preprocess], specs: Iterable[TensorSpec]) -> dict[str, Preprocess]:
    """What still has to be done for inputs of these dtypes: no normalization where pixels are taken as they are."""
    taken = {spec.name: spec.dtype for spec in specs}
    return {name: _raw(step, taken.get(name, "")) for name, step in steps.items()}


def _raw(step: Preprocess, dtype: str) -> Preprocess:
    """LiteRT's pixels are signed: 128 less."""
    if dtype not in ("uint8", "int8") or pixel_range(step) is None:
        return step
    return replace(step, scale=1.0, mean=(0.0 if dtype == "uint8" else 128.0,), std=(1.0,))
