"""Merging: what a round has learned, as a head of the float model that the next build is made of."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.errors import ConversionError
from edgekit.model import Model
from edgekit.passes import head
from edgekit_train import normalization
from edgekit_train.update import Weights

MLP, MOMENTS = "mlp", "moments"
HEADS = ("head", "bias", MLP)
SIGNATURE = "signature"
"""Its weights are those of the model's training signatures, all of them."""
Moments = Callable[[Model], Weights]
"""Those of a float model's features on the samples that it was made for; see ``gate.moments_of``."""


def head_of(model: Model, trainer: str, weights: Weights, moments: Moments) -> Weights:
    """The head that a trainer's weights come to, for the model that the devices' release was built from.

    Moments are folded into the head that is there. Raises: ConversionError for a trainer whose weights are no head.
    """
    if trainer in (*HEADS, SIGNATURE):
        return weights
    if trainer == MOMENTS:
        return normalization.folded(head.weights_of(model), moments(model), weights)
    raise ConversionError(
        f"{model.path.name}: what {trainer!r} has learned is no head that could be merged",
        f"train {', '.join(HEADS)}, {MOMENTS} or {SIGNATURE}, or merge it yourself and run 'edgekit build'",
    )
