"""Given: weights that somebody names for a round to begin with, held to its trainer and its model before it begins."""

from __future__ import annotations

import numpy as np

from edgekit.errors import ConfigError, InvalidInput
from edgekit.federated import checks
from edgekit.federated.merging import HEADS, MOMENTS, SIGNATURE
from edgekit.model import Model
from edgekit.passes import head, training_tflite
from edgekit_train import heads
from edgekit_train.normalization import MEAN, SQUARE
from edgekit_train.update import Weights

HINT = "give weights of this model and trainer, or --from model"


def check(source: str, trainer: str, weights: Weights, model: Model | None) -> None:
    """That devices can train on from these weights, and what comes of that be merged into ``model``.

    Of a trainer that is not built in it is known only that its weights are finite; so of a model that nothing is merged
    into, or none, that they are weights of the trainer. Raises: ConfigError, ConversionError for a model that has
    nothing which the trainer trains.
    """
    known = model if model and model.format in head.FORMS else None
    if trainer == SIGNATURE:
        wrong = checks.misfits(weights, training_tflite.weights_of(known) if known else weights)
    elif trainer == MOMENTS:
        wrong = checks.misfits(weights, _moments(weights, known))
    else:
        wrong = checks.misfits(weights, _head(source, weights, known) if trainer in HEADS else weights)
    if wrong:
        raise ConfigError(f"{source}: {'; '.join(wrong)}", HINT)


def _head(source: str, weights: Weights, model: Model | None) -> Weights:
    """One with the model's features and classes, and the hidden units of ``weights``. Raises: ConfigError."""
    try:
        layers = heads.layers(weights)
    except InvalidInput as error:
        raise ConfigError(f"{source}: {error.message}", HINT) from error
    features, classes = _ends(model) if model else (len(layers[0][0]), layers[-1][1].size)
    return heads.initial([features, *(bias.size for _, bias in layers[:-1]), classes])


def _moments(weights: Weights, model: Model | None) -> Weights:
    features = _ends(model)[0] if model else weights.get(MEAN, np.zeros(0)).size
    return {name: np.zeros(features, np.float32) for name in (MEAN, SQUARE)}


def _ends(model: Model) -> tuple[int, int]:
    """The features that its head takes, and the classes that it gives. Raises: ConversionError."""
    layers = heads.layers(head.weights_of(model))
    return len(layers[0][0]), layers[-1][1].size
