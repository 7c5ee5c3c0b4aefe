"""Updates for the tests of federated rounds: of arrays, or of rows of a table."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit_train.update import Update, Weights

BASE: Weights = {"head/bias": np.zeros(2, np.float32), "head/kernel": np.zeros((2, 2), np.float32)}
SIZE = 6


def update(delta: Weights, device: str = "pi-1", examples: int = 10) -> Update:
    return Update("digits", "sha256:" + "0" * 64, "0" * 32, device, examples, delta)


def weights_of(row: np.ndarray) -> Weights:
    """The arrays of BASE, filled with SIZE numbers."""
    row = np.asarray(row, np.float32)
    return {"head/bias": row[:2].copy(), "head/kernel": row[2:].reshape(2, 2).copy()}


def row_of(weights: Weights) -> np.ndarray:
    return np.concatenate([weights["head/bias"], weights["head/kernel"].ravel()])


def updates_of(table: np.ndarray) -> list[Update]:
    """One for each row, from devices whose names are in the same order."""
    return [update(weights_of(row), f"pi-{number:03}") for number, row in enumerate(table)]


def tables(least: int, most: int, far: float = 100.0) -> st.SearchStrategy[np.ndarray]:
    """Float32 [rows, SIZE]."""
    bound = float(np.float32(far))
    numbers = st.floats(-bound, bound, width=32, allow_subnormal=False)
    return st.integers(least, most).flatmap(lambda rows: arrays.arrays(np.float32, (rows, SIZE), elements=numbers))
