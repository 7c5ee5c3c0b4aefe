"""Deepening: a head of one layer becomes one of two that gives the same logits, so that a round of MLPs begins with
what is shipped (Net2Net: Chen, Goodfellow, Shlens, ICLR 2016).

z = relu(z) − relu(−z): of the hidden units the first C compute the head's logits z, the next C compute −z, and the last
layer takes their difference. ReLU is homogeneous, so a unit may be scaled where the last layer takes that back: by the
power of two that brings the weights before it as near as can be to the length of the one behind it, for descent keeps
layers balanced that are so (Du, Hu, Lee, NeurIPS 2018), and learns in small steps where they are not. A power of two
changes no digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ConfigError
from edgekit_train import heads
from edgekit_train.update import Weights

USUAL = 32


def least(classes: int) -> int:
    """Hidden units that a deepened head of so many classes has at least."""
    return 2 * classes


def usual(classes: int) -> int:
    """Hidden units where nobody says how many."""
    return max(USUAL, least(classes))


def deepened(head: Weights, hidden: int | None = None) -> Weights:
    """Features → ``hidden`` units → classes, of a head of one layer; as many as are ``usual`` where nobody says.

    The units that are left over are drawn as He et al. (2015) do, the same each time, and nothing takes them yet. The
    logits are the same but for the rounding of float32. Raises: ConfigError for a head that has a hidden layer, and for
    fewer units than ``least(classes)``; InvalidInput for weights that are no head.
    """
    (weight, bias), *more = heads.layers(head)
    if more:
        raise ConfigError(f"a head of {len(more) + 1} layers has a hidden one already", "begin with it as it is")
    hidden = usual(bias.size) if hidden is None else hidden
    if hidden < least(bias.size):
        raise ConfigError(
            f"{hidden} hidden units, and a head of {bias.size} classes needs {least(bias.size)}", "leave them out"
        )
    scale = _balancing(weight)
    first, offset, back = weight * scale, bias * scale, np.diag(1 / scale)
    rest = heads.initial([len(weight), hidden - least(bias.size), bias.size])
    return heads.named(
        [
            (
                np.hstack([first, -first, rest["head.0.weight"]]),
                np.concatenate([offset, -offset, rest["head.0.bias"]]),
            ),
            (np.vstack([back, -back, rest["head.1.weight"]]), np.zeros_like(bias)),
        ]
    )


def _balancing(weight: NDArray[Any]) -> NDArray[np.float32]:
    """By unit: s with |s·w| ≈ 1/s, a power of two; 1 where w is zero."""
    lengths = np.linalg.norm(weight.astype(np.float64), axis=0)
    exponents = np.round(-np.log2(np.where(lengths > 0, lengths, 1)) / 2)
    return np.exp2(exponents).astype(np.float32)
