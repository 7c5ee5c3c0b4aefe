"""Bias correction: what rounding the weights of a layer adds to its outputs in the mean is taken off its bias.

M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", arXiv:1906.04721, 4.2, with
the mean inputs as calibration samples show them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Means = Callable[[str, int], Array | None]
"""The mean of a tensor for each index along an axis, over samples and all other axes; None where it is not known."""
LARGEST = 127


def rounding(weights: Array, axis: int) -> Array:
    """Weights less what symmetric int8 per channel along ``axis`` makes of them."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    scale = np.maximum(np.abs(weights).max(axis=others, keepdims=True) / LARGEST, np.finfo(np.float32).tiny)
    lost: Array = weights - np.clip(np.rint(weights / scale), -LARGEST, LARGEST) * scale
    return lost


def shift(lost: Array, mean: Array) -> Array | None:
    """What to add to the bias: ``lost`` [outputs, inputs of a group] times the mean inputs [inputs]; None for no fit.

    Groups follow from the sizes.
    """
    outputs, inputs = lost.shape
    groups, rest = divmod(mean.size, inputs)
    if rest or not groups or outputs % groups:
        return None
    grouped = lost.reshape(groups, outputs // groups, inputs)
    found: Array = np.einsum("goi,gi->go", grouped, mean.reshape(groups, inputs)).ravel().astype(np.float32)
    return found
