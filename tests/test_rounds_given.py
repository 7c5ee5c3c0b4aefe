"""Weights that somebody names for a round to begin with: what no device could train, or no model take, is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ConfigError, ConversionError
from edgekit.federated.rounds import given
from edgekit.model import Model, open_model
from edgekit_train import heads
from edgekit_train.normalization import MEAN, SQUARE
from edgekit_train.update import Weights
from tests.lab.trainable import start, trainable
from tests.runtime.learners import CLASSES, SIZE, contents

TRAINERS = ("head", "bias", "mlp", "moments", "signature", "own")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Of 8 features and 3 classes."""
    path = tmp_path / "faces.onnx"
    path.write_bytes(contents().model)
    return open_model(path)


def moments(size: int = SIZE) -> Weights:
    return {name: np.ones(size, np.float32) for name in (MEAN, SQUARE)}


def spoilt(weights: Weights) -> Weights:
    """With one NaN."""
    name = min(weights)
    array = weights[name].copy()
    array.flat[-1] = np.nan
    return {**weights, name: array}


@pytest.mark.parametrize(
    ("trainer", "weights"),
    [
        ("head", heads.initial([SIZE, CLASSES])),
        ("head", heads.initial([SIZE, 5, 4, CLASSES])),
        ("bias", heads.initial([SIZE, CLASSES])),
        ("mlp", heads.initial([SIZE, 16, CLASSES])),
        ("moments", moments()),
        ("own", {"tree": np.zeros(7, np.float32)}),
    ],
)
def test_weights_that_fit(trainer: str, weights: Weights, model: Model) -> None:
    """A hidden layer more or less is the round's to choose."""
    for known in (model, None):
        given.check("file", trainer, weights, known)


@pytest.mark.parametrize(
    ("trainer", "weights", "why"),
    [
        ("head", heads.initial([SIZE, 12]), "head.0.bias: shape [12], where the model has [3]; head.0.weight: shape"),
        ("mlp", heads.initial([SIZE, 7, 12]), "head.1.bias: shape [12], where the model has [3]; head.1.weight: shape"),
        ("bias", heads.initial([64, CLASSES]), "head.0.weight: shape [64, 3], where the model has [8, 3]"),
        ("moments", moments(64), "features.mean: shape [64], where the model has [8]"),
    ],
)
def test_of_another_model(trainer: str, weights: Weights, why: str, model: Model) -> None:
    """They are told only where a model is known."""
    given.check("file", trainer, weights, None)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'file: {why}')}.* — give weights of this model and trainer"):
        given.check("file", trainer, weights, model)


def test_of_another_trainer(model: Model) -> None:
    for known in (model, None):
        with pytest.raises(ConfigError, match=r"file: weights features\.mean, features\.square are no head — give"):
            given.check("file", "head", moments(), known)
        with pytest.raises(ConfigError, match=r"names: 'features\.mean', 'features\.square' missing; names: 'head\.0"):
            given.check("file", "moments", heads.initial([SIZE, CLASSES]), known)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_numbers_that_are_not_finite(trainer: str) -> None:
    """Whoever trains on them."""
    weights = moments() if trainer in ("moments", "own") else heads.initial([SIZE, CLASSES])
    with pytest.raises(ConfigError, match="file: .*: numbers that are not finite"):
        given.check("file", trainer, spoilt(weights), None)


def test_those_of_training_signatures(tmp_path: Path, model: Model) -> None:
    """Are the ones of the file, all of them; of a model that has none there are none."""
    trains = open_model(trainable(tmp_path / "trains.tflite"))
    given.check("file", "signature", start(), trains)
    with pytest.raises(ConfigError, match="file: names: 'bias' missing"):
        given.check("file", "signature", {name: array for name, array in start().items() if name != "bias"}, trains)
    with pytest.raises(ConversionError, match=r"faces\.onnx: is no TFLite file with the signatures"):
        given.check("file", "signature", start(), model)
