"""Descent: steps of SGD with momentum on a head, their gradient clipped, and held near where they started (FedProx)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import numpy as np

if TYPE_CHECKING:
    from edgekit_train.settings import Settings

    Array = np.ndarray[Any, Any]
    Layer = Tuple[Array, Array]


class Descent:
    """Changes the arrays of ``head``. It takes twice their bytes, for a velocity and a gradient, and as much again for
    the proximal term.
    """

    def __init__(self, head: list[Layer], settings: Settings, *, only_bias: bool = False) -> None:
        self._settings, self._only_bias = settings, only_bias
        self._moved = self._chosen(head)
        self._start = [array.copy() for array in self._moved] if settings.proximal else []
        self._velocity = [np.zeros_like(array) for array in self._moved]

    def _chosen(self, head: list[Layer]) -> list[Array]:
        return [array for layer in head for array in (layer[1:] if self._only_bias else layer)]

    def step(self, gradient: list[Layer]) -> None:
        """A gradient that is not finite makes the weights so: whoever takes them checks."""
        settings, slopes = self._settings, self._chosen(gradient)
        for slope, array, start in zip(slopes, self._moved, self._start):  # none without the proximal term
            pull = array - start
            pull *= np.float32(settings.proximal)
            slope += pull
        shrink = np.float32(settings.rate * _within(slopes, settings.clip))
        for slope, array, velocity in zip(slopes, self._moved, self._velocity):
            velocity *= np.float32(settings.momentum)
            slope *= shrink
            velocity += slope
            array -= velocity


def _within(slopes: list[Array], clip: float) -> float:
    """The factor that brings them within ``clip``, together."""
    length = float(np.sqrt(sum(float(np.dot(each.ravel(), each.ravel())) for each in slopes)))
    return clip / length if length > clip else 1.0
