"""Clipping and noise: no delta is longer than agreed, and the noise is Gaussian and nobody's to guess."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit_train.clipping import clip, norm
from edgekit_train.noise import AT_ONCE, gaussian, noised
from edgekit_train.update import Weights

DELTAS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    arrays.arrays(np.float32, arrays.array_shapes(min_side=0, max_side=5), elements=st.floats(-1e6, 1e6, width=32)),
)


@given(DELTAS, st.floats(1e-3, 1e6))
def test_it_is_no_longer_than_agreed_and_points_where_it_did(delta: Weights, most: float) -> None:
    done = clip(delta, most)
    assert norm(done.delta) <= most
    assert done.whole == (norm(delta) <= most)
    if done.whole:
        assert done.delta is delta
    else:
        factor = most / norm(delta)
        for name, array in delta.items():
            assert done.delta[name] == pytest.approx(array * factor, rel=1e-5, abs=1e-30)


def test_the_norm_is_of_all_numbers_together() -> None:
    large = np.full(1, 3e38, np.float32)  # whose square is no float32
    assert norm({"a": np.array([3.0], np.float32), "b": np.array([[4.0]], np.float32)}) == 5
    assert norm({"a": large, "b": large}) == pytest.approx(3e38 * math.sqrt(2))
    assert norm({}) == 0


@pytest.mark.parametrize(("number", "most"), [(np.nan, 1), (np.inf, 1), (1, 0), (1, -1), (1, math.nan), (1, math.inf)])
def test_what_cannot_be_clipped_is_refused(number: float, most: float) -> None:
    with pytest.raises(ValueError):
        clip({"a": np.array([number], np.float32)}, most)


def test_noise_is_gaussian() -> None:
    size = 3 * AT_ONCE + 5
    sample = np.sort(gaussian(size, np.random.default_rng(7).bytes))
    exact = [0.5 * math.erfc(-each / math.sqrt(2)) for each in sample[::97]]
    distance = np.max(np.abs(np.arange(size)[::97] / size - exact))
    assert distance < 1.63 / math.sqrt(size) + 1e-5  # Kolmogorov and Smirnov, at 1 %
    assert np.all(np.isfinite(sample))
    assert abs(np.corrcoef(gaussian(AT_ONCE, np.random.default_rng(8).bytes).reshape(2, -1))[0, 1]) < 0.02


def test_the_extremes_of_its_bytes_are_finite() -> None:
    for byte in (b"\0", b"\xff"):
        assert np.isfinite(gaussian(3, lambda count, byte=byte: byte * count)).all()
    assert gaussian(0).shape == (0,)


def test_it_comes_from_the_system_unless_a_test_says_otherwise() -> None:
    weights = {"b": np.zeros((2, 3), np.float32), "a": np.zeros((), np.float32)}
    one, other = (noised(weights, 1.0) for _ in range(2))
    assert not np.array_equal(one["b"], other["b"])
    again = [noised(weights, 1.0, np.random.default_rng(7).bytes)["b"] for _ in range(2)]
    assert np.array_equal(*again)
    assert one["b"].shape == (2, 3)
    assert one["a"].dtype == one["b"].dtype == np.float32
    assert np.array_equal(noised(weights, 0)["b"], weights["b"])
    for deviation in (-1, math.nan):
        with pytest.raises(ValueError):
            noised(weights, deviation)
