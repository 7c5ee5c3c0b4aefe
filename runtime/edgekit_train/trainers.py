"""Trainers by name: what a task may ask for. Others come by the entry-point group ``edgekit_train.trainers``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from edgekit_runtime import serving
from edgekit_train import features
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.normalization import MEAN, SQUARE, NormalizationTrainer
from edgekit_train.settings import Settings
from edgekit_train.signature_trainer import SignatureTrainer
from edgekit_train.trainer import Trainer, TrainingFailed

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.session import Session

GROUP = "edgekit_train.trainers"


@dataclass(frozen=True)
class Kind:
    """``make``: a trainer for a session of a bundle. ``features``: whether it learns from the features of samples, or
    from the inputs of the model.
    """

    make: Callable[[Session, Bundle], Trainer]
    features: bool = True


def _head(session: Session, bundle: Bundle) -> Trainer:
    """The layers come with the weights; without any, one."""
    return HeadTrainer()


def _mlp(session: Session, bundle: Bundle) -> Trainer:
    """A hidden layer makes steps of the same rate go further, and overshoot."""
    return HeadTrainer(hidden=32, usual=Settings(rate=0.01))


def _bias(session: Session, bundle: Bundle) -> Trainer:
    return HeadTrainer(only_bias=True)


def _moments(session: Session, bundle: Bundle) -> Trainer:
    zeros = np.zeros(features.declared(session).size, np.float32)
    return NormalizationTrainer({MEAN: zeros, SQUARE: zeros})


def _signature(session: Session, bundle: Bundle) -> Trainer:
    return SignatureTrainer(serving.model(bundle), features.classes(session))


BUILT_IN = {
    "head": Kind(_head),
    "bias": Kind(_bias),
    "mlp": Kind(_mlp),
    "moments": Kind(_moments),
    "signature": Kind(_signature, features=False),
}


def named(name: str) -> Kind:
    """Raises: TrainingFailed for a name that is unknown here, or a trainer that cannot be imported."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    brought = {entry.name: entry for entry in _brought()}
    if name not in brought:
        raise TrainingFailed(
            f"no trainer {name!r} on this device", f"known: {', '.join(sorted({*BUILT_IN, *brought}))}"
        )
    try:
        found = brought[name].load()
    except (Exception, SystemExit) as error:  # somebody else's module runs
        raise TrainingFailed(f"trainer {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, Kind):
        raise TrainingFailed(f"trainer {name!r} is a {type(found).__name__}", "its entry point names a trainers.Kind")
    return found


def _brought() -> list[Any]:
    from importlib.metadata import entry_points

    found: Any = entry_points()
    return list(found.select(group=GROUP) if hasattr(found, "select") else found.get(GROUP, ()))
