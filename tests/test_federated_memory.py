"""What a round holds in memory does not grow with the number of devices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from edgekit.federated import rows, strategies
from edgekit.federated.strategy import Strategy
from edgekit_train.update import Update
from tests.lab.updates import update

ALL = [*(make() for make in strategies.MEANS), *(make(2) for make in strategies.ROBUST)]
VECTORS = 12
"""Of float32: an update as it came and as a vector, the sum and the moved weights in float64, and moments."""


def come(devices: int, size: int) -> Iterator[Update]:
    """Updates that are made one at a time, as files are read."""
    numbers = np.random.default_rng(0)
    for device in range(devices):
        yield update({"a": numbers.standard_normal(size, np.float32)}, f"pi-{device:04}")


def peak(strategy: Strategy, devices: int, size: int) -> int:
    """Bytes that were held at most."""
    tracemalloc.start()
    try:
        strategy.aggregate(strategy.init({"a": np.zeros(size, np.float32)}), come(devices, size))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def allowed(devices: int, size: int) -> int:
    """Vectors, a few blocks, and a few numbers for each pair of devices."""
    return 4 * size * VECTORS + 4 * rows.BLOCK + 64 * devices**2


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)
def test_updates_are_never_held_at_once(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 1 << 18)
    devices, size = 100, 20_000
    assert peak(strategy, devices, size) < allowed(devices, size) < 4 * size * devices / 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)
def test_a_thousand_of_them(strategy: Strategy) -> None:
    devices, size = 1000, 100_000
    assert peak(strategy, devices, size) < allowed(devices, size) < 4 * size * devices / 4
