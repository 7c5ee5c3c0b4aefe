"""Bins of about the same share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.building.binning import bins
from edgekit_watch.calibration import counted


def test_of_many_values_they_are_equal() -> None:
    found = bins(np.random.default_rng(0).normal(size=10000), 10)
    assert found.shares == pytest.approx([0.1] * 10, abs=1e-3)


def test_of_mostly_the_same_value_they_hold_that_apart() -> None:
    values = np.concatenate([np.zeros(800), np.linspace(1, 2, 200)])
    found = bins(values, 10)
    assert found.shares[0] == 0.8
    assert 0 < found.edges[0] < 1


def test_of_one_value_alone_what_is_beside_it_is_told() -> None:
    found = bins(np.full(100, 1.0), 5)
    assert found.shares == (0.0, 1.0, 0.0)
    assert counted(np.array([0.5, 1.0, 1.5]), np.array(found.edges)).tolist() == [1, 1, 1]


def test_the_last_bit_moves_nothing() -> None:
    values = np.random.default_rng(0).integers(0, 256, 5000).astype(np.float32) / np.float32(255)
    found = bins(values, 10)
    for other in (np.nextafter(values, np.float32(2)), np.nextafter(values, np.float32(-1))):
        assert tuple(counted(other, np.array(found.edges)) / 5000) == pytest.approx(found.shares, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(arrays.arrays(np.float32, st.integers(1, 200)), st.integers(2, 10))
def test_of_anything_they_rise_and_hold_all(values: np.ndarray, most: int) -> None:
    found = bins(values, most)
    assert list(found.edges) == sorted(set(found.edges))
    assert len(found.shares) == len(found.edges) + 1 <= most + 2
    assert np.isfinite(values).sum() == 0 or sum(found.shares) == pytest.approx(1, abs=1e-4)
