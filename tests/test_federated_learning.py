"""Twenty devices that train heads on digits of their own: what each strategy makes of them, some of them lying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.federated import strategies
from edgekit.federated.strategy import Strategy
from edgekit_train import heads
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.update import Update, Weights
from tests.lab.updates import update

pytestmark = pytest.mark.slow

DEVICES, ROUNDS, LIARS, JUDGED = 20, 20, 4, 100
EXAMPLE = Path(__file__).parents[1] / "examples" / "digits" / "evaluation.npz"
Lie = Callable[[Weights], Weights]
Digits = tuple[np.ndarray, np.ndarray]


def flipped(delta: Weights) -> Weights:
    return {name: np.float32(-10) * array for name, array in delta.items()}


def noise(delta: Weights) -> Weights:
    numbers = np.random.default_rng(0)
    return {name: np.float32(10) * numbers.standard_normal(array.shape, np.float32) for name, array in delta.items()}


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Float32 [400, 64] and their labels, shuffled."""
    with np.load(EXAMPLE) as data:
        order = np.random.default_rng(0).permutation(len(data["labels"]))
        return data["x"].reshape(len(order), -1)[order], data["labels"][order]


def learned(strategy: Strategy, digits: Digits, lie: Lie | None = None) -> float:
    """The accuracy on digits that no device has, after so many rounds."""
    rows, labels = digits
    owners = np.arange(len(labels) - JUDGED) % DEVICES
    state = strategy.init(heads.initial([rows.shape[1], 10]))
    for number in range(ROUNDS):
        came = list[Update]()
        for device in range(DEVICES):
            own = [(rows[at], int(labels[at])) for at in np.flatnonzero(owners == device)]
            fitted = HeadTrainer().fit(state.weights, own, {"seed": number, **strategy.config})
            delta = lie(fitted.delta) if lie and device < LIARS else fitted.delta
            came.append(update(delta, f"pi-{device:02}", fitted.examples))
        state = strategy.aggregate(state, came)
    answers = heads.logits(heads.layers(state.weights), rows[-JUDGED:]).argmax(axis=1)
    return float((answers == labels[-JUDGED:]).mean())


@pytest.mark.parametrize("make", strategies.MEANS)
def test_means_learn_what_no_device_has_alone(make: Callable[[], Strategy], digits: Digits) -> None:
    assert learned(make(), digits) >= 0.85


@pytest.mark.parametrize("lie", [flipped, noise])
def test_liars_make_a_mean_useless(lie: Lie, digits: Digits) -> None:
    assert learned(strategies.fedavg(), digits, lie) < 0.5


@pytest.mark.parametrize("lie", [flipped, noise])
@pytest.mark.parametrize("make", [strategies.multi_krum, strategies.bulyan])
def test_liars_cost_rules_that_leave_them_out_little(make: Callable[[int], Strategy], lie: Lie, digits: Digits) -> None:
    assert learned(make(LIARS), digits, lie) >= learned(make(LIARS), digits) - 0.05


@pytest.mark.parametrize("lie", [flipped, noise])
@pytest.mark.parametrize("make", [strategies.median, strategies.trimmed_mean])
def test_liars_that_all_pull_one_way_cost_the_middle_more(
    make: Callable[[int], Strategy], lie: Lie, digits: Digits
) -> None:
    """Each number stays among the honest ones; but those of devices with 15 digits lie far apart."""
    assert learned(make(LIARS), digits, lie) >= 0.65
