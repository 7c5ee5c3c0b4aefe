"""Scales: outputs that hold values of very different sizes, boxes beside scores, which one int8 scale cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime.compare import UNEVEN, column_scales

Array = NDArray[Any]

LEAST_AXES = 3
"""Batch, places and columns; class scores have fewer."""


def mixed(outputs: Sequence[Mapping[str, Array]]) -> list[str]:
    """A line for each output of mixed scales, over some samples of what the float model gives."""
    names = outputs[0] if outputs else {}
    return [told for name in names if (told := _told(name, [sample[name] for sample in outputs]))]


def _told(name: str, arrays: Sequence[Array]) -> str:
    if arrays[0].ndim < LEAST_AXES or len({array.shape for array in arrays}) > 1:
        return ""
    found = [column_scales(np.concatenate(arrays).astype(np.float64), axis).ravel() for axis in (1, -1)]
    scales = max(found, key=lambda each: float(each.max() / each.min()))
    ratio = scales.max() / scales.min()
    if not ratio >= UNEVEN:
        return ""
    large = scales > np.sqrt(scales.max() * scales.min())
    sizes = [f"columns {_columns(part)} about {float(np.median(scales[part])):.3g}" for part in (large, ~large)]
    return (
        f"output {name!r} is of mixed scales ({', '.join(sizes)}): under one int8 scale the small ones would be lost, "
        "so the layers that bring them together stay in float where mixed precision may ship"
    )


def _columns(chosen: Array) -> str:
    """``0-3, 7``: the places that are True."""
    places = np.flatnonzero(chosen)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    told = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(told[:4]) + (", …" if len(told) > 4 else "")
