"""Fitting: a trainer at work, of edgekit's or of somebody else's.

What it gives is what it must be, and what it raises is told.
"""

from __future__ import annotations

import contextlib
import operator
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Mapping

import numpy as np

from edgekit_runtime.errors import EdgekitError
from edgekit_train import trainers
from edgekit_train.trainer import Fitted, TrainingFailed

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Config, Sample, Trainer
    from edgekit_train.trainers import Kind
    from edgekit_train.update import Weights

MOST_INIT = 16 << 20
"""Bytes of weights that a device sends for a round to begin with, as a file."""
LONGEST = 200
"""The most characters of what somebody else's error says."""


class Work:
    """A trainer by its name, which a session of a bundle is for. Every method raises: TrainingFailed, EdgekitError."""

    def __init__(self, name: str, session: Session, bundle: Bundle) -> None:
        self._name, self._session, self._bundle = name, session, bundle
        self.kind: Kind = trainers.named(name)

    def init(self) -> Weights:
        """What training starts from where nobody sends any."""
        with _telling(self._name):
            given: Any = self._trainer().init(self._session)
        with _told(self._name, "are no weights"):
            return _some(_arrays(given))

    def fit(self, weights: Weights, data: Iterable[Sample], config: Config) -> Fitted:
        """``weights``: {} for those of ``init``."""
        with _telling(self._name):
            trainer = self._trainer()
            given: Any = trainer.fit(weights or trainer.init(self._session), data, config)
        with _told(self._name, "is no update"):
            return _fitted(given)

    def _trainer(self) -> Trainer:
        return self.kind.make(self._session, self._bundle)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Errors of edgekit's own are as they are; any other one says whose it is."""
    try:
        yield
    except EdgekitError:
        raise
    except (Exception, SystemExit) as error:
        raise TrainingFailed(f"trainer {name!r} failed: {line(error)}") from error


@contextlib.contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise TrainingFailed(f"what trainer {name!r} gave {what}: {error}") from error


def line(error: BaseException) -> str:
    """An error by its kind and the first line of what it says."""
    said = str(error).strip().partition("\n")[0][:LONGEST]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _fitted(given: Any) -> Fitted:
    """With numbers of Python, whatever numbers they were. Raises: TypeError, ValueError."""
    if not isinstance(given, Fitted):
        raise TypeError(f"a {type(given).__name__} where a Fitted must be")
    metrics = {name: float(value) for name, value in _mapping(given.metrics, "metrics").items()}
    return Fitted(_arrays(given.delta), operator.index(given.examples), metrics)


def _arrays(given: Any) -> Weights:
    """Raises: TypeError, ValueError for what are no finite arrays of float32 by name."""
    arrays = dict(_mapping(given, "arrays by name"))
    for name, array in arrays.items():
        if getattr(array, "dtype", None) != np.float32 or not isinstance(array, np.ndarray):
            raise TypeError(f"{name}: {getattr(array, 'dtype', type(array).__name__)} where float32 must be")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: a number that is not finite")
    return arrays


def _some(weights: Weights) -> Weights:
    if not weights:
        raise ValueError("nothing in them")
    return weights


def _mapping(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"a {type(given).__name__} where {what} must be")
    return given
