"""Compression: right on average, the largest first, and nothing is lost for good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit_train.compression import Compression, compress
from edgekit_train.update import Update, Weights, dump, parse

DELTAS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=0, min_side=0, max_side=5), elements=st.floats(-8, 8, width=32)
    ),
)
HOW = st.builds(Compression, st.sampled_from([0.01, 0.3, 1.0]), st.booleans())


def seeded(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def bell(size: int) -> Weights:
    return {"kernel": seeded().normal(size=size).astype(np.float32)}


@given(DELTAS, HOW)
def test_what_was_left_out_is_the_residual(delta: Weights, how: Compression) -> None:
    done = compress(delta, how, {}, seeded())
    for name, array in delta.items():
        assert done.delta[name] + done.residual[name] == pytest.approx(array, abs=1e-5)
    update = Update("app", "sha256:0", "0" * 32, "pi", 1, done.delta)
    assert parse(dump(update, done.packed), 1 << 20) == update


@given(DELTAS)
def test_int8_is_off_by_less_than_a_step(delta: Weights) -> None:
    done = compress(delta, Compression(), {}, seeded())
    for name, array in delta.items():
        step = np.abs(array).max(initial=0) / 127
        assert np.all(np.abs(done.delta[name] - array) <= step * 1.001 + 1e-37)


def test_int8_is_right_on_average() -> None:
    delta, random = {"kernel": np.array([1, 0.3, -0.0123, 0.00001], np.float32)}, seeded()
    mean = sum(compress(delta, Compression(), {}, random).delta["kernel"] for _ in range(4000)) / 4000
    assert mean == pytest.approx(delta["kernel"], abs=5 * (1 / 127) / 2 / 4000**0.5)


def test_the_largest_are_kept() -> None:
    delta = {"kernel": np.array([[0.1, -5], [3, 0.2]], np.float32)}
    done = compress(delta, Compression(0.5, int8=False), {}, seeded())
    assert done.delta["kernel"].tolist() == [[0, -5], [3, 0]]
    assert np.allclose(done.residual["kernel"], [[0.1, 0], [0, 0.2]])


def test_how_many_bytes_travel() -> None:
    delta = bell(100_000)
    for how, count in ((Compression(), 100_000), (Compression(0.01, int8=False), 8000), (Compression(0.01), 5000)):
        done = compress(delta, how, {}, seeded())
        assert done.bytes == count
        assert done.ratio == 400_000 / count
        size = len(dump(Update("app", "sha256:0", "0" * 32, "pi", 1, done.delta), done.packed))
        assert count < size < count + 1000


@pytest.mark.parametrize("fed_back", [True, False])
def test_with_its_error_fed_back_descent_arrives_where_it_does_not_without(fed_back: bool) -> None:
    """One of a hundred numbers a step; the least squares of rows that pull in many directions."""
    rows = seeded().normal(size=(400, 100)).astype(np.float32)
    target = seeded(8).normal(size=100).astype(np.float32)
    weights, residual = np.zeros(100, np.float32), {}
    for _ in range(600):
        slope = rows.T @ (rows @ (weights - target)) / 400
        done = compress({"w": (-0.02 * slope).astype(np.float32)}, Compression(0.01), residual, seeded())
        weights = weights + done.delta["w"]
        residual = done.residual if fed_back else {}
    distance = float(np.linalg.norm(weights - target) / np.linalg.norm(target))
    assert distance < 0.01 if fed_back else distance > 0.02


def test_a_residual_of_another_model_is_forgotten() -> None:
    delta = {"kernel": np.ones(3, np.float32)}
    done = compress(delta, Compression(int8=False), {"kernel": np.ones(4, np.float32), "gone": np.ones(1)}, seeded())
    assert done.delta["kernel"].tolist() == [1, 1, 1]
    assert set(done.residual) == {"kernel"}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e38])
def test_what_cannot_be_sent_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="kernel"):
        compress({"kernel": np.array([0, number], np.float32)}, Compression(), {}, seeded())


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Compression(share)
