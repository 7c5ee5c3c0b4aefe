"""A head of two layers that says what one of one layer says, and learns on from there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.errors import ConfigError
from edgekit.federated import deepening
from edgekit_train import heads
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.trainer import added
from edgekit_train.update import Weights

Floats = NDArray[np.float32]


def drawn(size: int, classes: int, length: float, seed: int) -> tuple[Weights, Floats]:
    """A head whose units differ in length by orders of magnitude, one of them all zero, and 20 rows for it."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((size, classes)) * length * 10.0 ** rng.integers(-2, 3, classes)
    weight[:, rng.integers(classes)] = 0
    head = [(weight.astype(np.float32), (rng.standard_normal(classes) * length).astype(np.float32))]
    return heads.named(head), rng.standard_normal((20, size)).astype(np.float32)


@given(
    st.integers(1, 80),
    st.integers(1, 12),
    st.integers(0, 40),
    st.sampled_from([1e-6, 1e-2, 1.0, 1e3]),
    st.integers(0, 2**32 - 1),
)
def test_the_logits_are_the_same_but_for_rounding(size: int, classes: int, more: int, length: float, seed: int) -> None:
    """Within what float32 rounds when it adds up ``size`` products, and not by a hair more."""
    head, rows = drawn(size, classes, length, seed)
    made = heads.layers(deepening.deepened(head, deepening.least(classes) + more))
    assert [layer[0].shape for layer in made] == [(size, 2 * classes + more), (2 * classes + more, classes)]
    assert all(array.dtype == np.float32 for layer in made for array in layer)
    [(weight, bias)] = heads.layers(head)
    terms = np.abs(rows) @ np.abs(weight) + np.abs(bias)
    error = np.abs(heads.logits(made, rows) - heads.logits([(weight, bias)], rows))
    assert (error <= 2 * (size + 2) * np.finfo(np.float32).eps * terms + np.finfo(np.float32).tiny).all()


def test_it_is_the_same_each_time() -> None:
    head, _ = drawn(8, 3, 1.0, 0)
    one, other = deepening.deepened(head, 32), deepening.deepened(head, 32)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@given(st.integers(2, 80), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_the_weights_before_and_behind_a_unit_are_of_like_length(size: int, length: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    head = heads.named([((rng.standard_normal((size, 4)) * length).astype(np.float32), np.zeros(4, np.float32))])
    (first, _), (last, _) = heads.layers(deepening.deepened(head, 8))
    ratio = np.linalg.norm(first, axis=0) / np.linalg.norm(last, axis=1)
    assert (np.abs(np.log2(ratio)) <= 1 + 1e-6).all()


def test_units_that_nothing_takes_yet_come_to_be_used() -> None:
    """What no softmax regression can tell, the corners of a square, a deepened one learns; the regression does not."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    samples = list(zip(rows, (rows[:, 0] * rows[:, 1] > 0).astype(int).tolist(), strict=True))
    head, how = heads.initial([2, 2]), {"epochs": 60, "rate": 0.05}
    before = deepening.deepened(head, deepening.usual(2))
    assert not before["head.1.weight"][4:].any()
    fitted = HeadTrainer().fit(before, samples, how)
    assert added(before, fitted.delta)["head.1.weight"][4:].all()
    assert fitted.metrics["accuracy_after"] > 0.95
    assert HeadTrainer().fit(head, samples, how).metrics["accuracy_after"] < 0.7


def test_as_many_as_are_usual_unless_somebody_says() -> None:
    for classes, units in ((3, 32), (20, 40)):
        made = deepening.deepened(heads.initial([8, classes]))
        assert made["head.0.weight"].shape == (8, units)
        assert made["head.1.weight"].shape == (units, classes)


def test_what_cannot_be_deepened_is_told_in_a_line() -> None:
    with pytest.raises(ConfigError, match="^32 hidden units, and a head of 20 classes needs 40 —"):
        deepening.deepened(heads.initial([8, 20]), 32)
    with pytest.raises(ConfigError, match="^a head of 2 layers has a hidden one already — begin with it as it is$"):
        deepening.deepened(heads.initial([8, 6, 3]))


@pytest.mark.parametrize(("classes", "units"), [(2, 32), (10, 32), (16, 32), (17, 34), (1001, 2002)])
def test_as_many_units_as_nobody_has_to_say(classes: int, units: int) -> None:
    assert deepening.usual(classes) == units
