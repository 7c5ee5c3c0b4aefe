"""Usable samples: those that were kept, as a trainer takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

from edgekit_runtime.errors import InvalidInput
from edgekit_train import features

if TYPE_CHECKING:
    from edgekit_runtime.session import Session
    from edgekit_train.trainer import Inputs, Sample

    Array = np.ndarray[Any, Any]


class Usable:
    """Samples by their features, or by the inputs of the model, one at a time.

    What the model does not take, kept for an earlier one of another shape or other classes, is passed over, and so is
    what is too large to be reckoned with; ``taken`` and ``passed`` count. Raises: InvalidInput for a bundle that does
    not tell its classes; EngineError.
    """

    def __init__(self, session: Session, kept: Iterable[tuple[Inputs, int]], *, by_features: bool) -> None:
        self._session, self._kept, self._by_features = session, kept, by_features
        self._classes = features.classes(session)
        self.taken = self.passed = 0

    def __iter__(self) -> Iterator[Sample]:
        for x, y in self._kept:
            try:
                row = self._row(x)
            except InvalidInput:
                self.passed += 1
                continue
            if y < self._classes and _is_bounded(row):
                self.taken += 1
                yield row, y
            else:
                self.passed += 1

    def _row(self, x: Inputs) -> Array:
        if self._by_features:
            row: Array = features.of(self._session, x)[0]
            return row
        fed = self._session.interface.feeds(x)
        if len(fed) != 1:
            raise InvalidInput("a trainer of inputs takes one")
        return next(iter(fed.values()))


def _is_bounded(row: Array) -> bool:
    """Whether float32 holds its numbers and the sum of their squares: features may be larger than inputs."""
    with np.errstate(over="ignore", invalid="ignore"):
        flat = np.asarray(row, np.float32).reshape(-1)
        return bool(np.isfinite(np.dot(flat, flat)))
