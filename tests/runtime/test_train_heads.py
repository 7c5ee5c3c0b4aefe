from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.federated.deepening import deepened
from edgekit_runtime.errors import InvalidInput
from edgekit_runtime.features import Features
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from edgekit_train import features, heads, trainers
from edgekit_train.features import rows as rows_of
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.trainer import Trainer, TrainingFailed, added
from edgekit_train.update import Update, Weights, dump, parse
from tests.runtime import bundles
from tests.runtime.learning import Rows, accuracy, rows, session, shipped

GAIN = 0.1
"""The least that training on 600 foggy pictures adds to the accuracy on 400 others: 0.18 here, by
biases alone 0.12."""
HOW = {"epochs": 10, "rate": 0.02}


def made_up(count: int = 64, size: int = 8, classes: int = 3) -> Rows:
    rng = np.random.default_rng(1)
    y = rng.integers(classes, size=count)
    return Rows((rng.normal(size=(count, size)) + 2 * np.eye(classes, size)[y]).astype(np.float32), y)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
def test_gradients_are_those_of_the_loss(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    head = [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(sizes)]
    x, y = rng.normal(size=(5, sizes[0])), rng.integers(sizes[-1], size=5)
    for layer, slopes in zip(head, heads.gradient(head, x, y), strict=True):
        for array, slope in zip(layer, slopes, strict=True):
            at = tuple(rng.integers(size) for size in array.shape)
            assert slope[at] == pytest.approx(_difference(head, (x, y), array, at), abs=1e-4)


def _difference(head: list[Any], of: tuple[Any, Any], array: Any, at: tuple[int, ...]) -> float:
    losses, was = [], array[at]
    for step in (1e-6, -1e-6):
        array[at] = was + step
        losses.append(heads.loss(heads.logits(head, of[0]), of[1]))
    array[at] = was
    return (losses[0] - losses[1]) / 2e-6


@pytest.mark.parametrize("trainer", [HeadTrainer(), HeadTrainer(only_bias=True)], ids=["head", "biases"])
def test_what_a_device_learns_of_its_own_pictures_helps(trainer: HeadTrainer) -> None:
    foggy, start = rows(), shipped()
    fitted = trainer.fit(start, foggy.part(0, 600).samples, HOW)
    before, after = (accuracy(each, foggy.part(600, 1000)) for each in (start, added(start, fitted.delta)))
    assert after > before + GAIN
    assert fitted.examples == 600
    assert fitted.metrics["accuracy_after"] > fitted.metrics["accuracy_before"] + GAIN
    assert fitted.metrics["loss_after"] < fitted.metrics["loss_before"]


def test_so_does_a_hidden_layer_that_began_as_shipped() -> None:
    """At the rate that rounds of it have where nobody says one; and at one that somebody says."""
    foggy, start = rows(), deepened(shipped(), 32)
    trainer = trainers.named("mlp").make(session(), None)  # type: ignore[arg-type]  # it looks at neither
    assert accuracy(start, foggy) == accuracy(shipped(), foggy)
    usual, same, other = (
        trainer.fit(start, foggy.part(0, 600).samples, {"epochs": 10, **rate})
        for rate in ({}, {"rate": 0.01}, {"rate": 0.02})
    )
    after = accuracy(added(start, usual.delta), foggy.part(600, 1000))
    assert after > accuracy(start, foggy.part(600, 1000)) + GAIN
    assert all(np.array_equal(usual.delta[name], same.delta[name]) for name in start)
    assert not np.array_equal(usual.delta["head.0.weight"], other.delta["head.0.weight"])


def test_a_head_that_knows_nothing_learns_nearly_as_much() -> None:
    foggy = rows()
    for trainer in (HeadTrainer(), HeadTrainer(hidden=32)):
        start = trainer.init(session())
        assert accuracy(start, foggy) == pytest.approx(0.1, abs=0.03)
        fitted = trainer.fit(start, foggy.part(0, 600).samples, {"epochs": 20})
        assert accuracy(added(start, fitted.delta), foggy.part(600, 1000)) > accuracy(shipped(), foggy) + GAIN / 2


def test_what_leaves_the_device_is_an_update_and_nothing_of_the_pictures() -> None:
    fitted = HeadTrainer().fit(shipped(), rows().part(0, 50).samples, {"epochs": 1})
    update = Update("app", f"sha256:{'0' * 64}", "1" * 32, "pi", fitted.examples, fitted.delta, fitted.metrics)
    sent = dump(update)
    assert parse(sent, len(sent)) == update
    numbers = sum(each.nbytes for each in fitted.delta.values())
    assert len(sent) < numbers + 1500
    assert {name: each.shape for name, each in fitted.delta.items()} == {
        "head.0.bias": (10,),
        "head.0.weight": (64, 10),
    }
    assert set(fitted.metrics) == {"loss_before", "loss_after", "accuracy_before", "accuracy_after"}


def test_biases_alone_are_changed_where_asked() -> None:
    delta = HeadTrainer(only_bias=True).fit(shipped(), rows().part(0, 100).samples, {}).delta
    assert not delta["head.0.weight"].any()
    assert delta["head.0.bias"].all()


@pytest.mark.parametrize("hidden", [0, 16])
def test_one_seed_gives_one_delta_to_the_byte(hidden: int) -> None:
    given, trainer = made_up().samples, HeadTrainer(hidden)
    start = heads.initial([8, *([hidden] if hidden else []), 3])
    kept = {name: array.copy() for name, array in start.items()}
    one, two, other = (trainer.fit(start, iter(given), {"seed": seed}).delta for seed in (7, 7, 8))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in one.values())
    assert all(np.array_equal(start[name], kept[name]) for name in start)


def test_the_proximal_term_keeps_weights_near_where_they_started() -> None:
    start, given = heads.initial([8, 3]), made_up().samples
    lengths = []
    for mu in (0.0, 0.1, 1.0, 10.0):
        delta = HeadTrainer().fit(start, given, {"proximal": mu, "epochs": 20}).delta
        lengths.append(float(np.sqrt(sum(np.sum(np.square(each)) for each in delta.values()))))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < lengths[0] / 4


def test_the_clip_bounds_every_step() -> None:
    start, given = heads.initial([8, 3]), Rows(made_up(16).x * 1000, made_up(16).y).samples
    how = {"epochs": 1, "batch": 16, "momentum": 0.0, "rate": 0.5, "clip": 0.25}
    delta = HeadTrainer().fit(start, given, how).delta
    assert np.sqrt(sum(np.sum(np.square(each)) for each in delta.values())) == pytest.approx(0.125, rel=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.full(8, np.nan), 0, "not finite"),
        (np.full(8, np.inf), 0, "not finite"),
        (np.full(8, 1e300), 0, "not finite"),
        (np.zeros(7), 0, "7 features"),
        (np.zeros(8), 3, "of class 3"),
        (np.zeros(8), -1, "of class -1"),
    ],
)
def test_a_sample_that_fits_not_is_refused(x: Any, y: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        HeadTrainer().fit(heads.initial([8, 3]), [*made_up(3).samples, (x, y)], {})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": "0.1"}, "rate is '0.1'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 2.5}, "batch is 2.5 — give a whole number"),
        ({"clip": 0}, "clip is 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        HeadTrainer().fit(heads.initial([8, 3]), made_up(3).samples, how)


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(InvalidInput, match="no sample"):
        HeadTrainer().fit(heads.initial([8, 3]), [], {})


def test_weights_that_leave_the_finite_numbers_never_leave_the_device() -> None:
    start = {"head.0.weight": np.full((8, 3), 3e38, np.float32), "head.0.bias": np.zeros(3, np.float32)}
    with pytest.raises(TrainingFailed, match="has left the finite numbers"):
        HeadTrainer().fit(start, made_up().samples, {"rate": 1e3, "clip": 1e6})


@pytest.mark.parametrize(
    "weights", [{}, {"w": np.zeros(3)}, {"head.0.weight": np.zeros((2, 3)), "head.0.bias": np.zeros(2)}]
)
def test_weights_that_are_no_head_are_refused(weights: Weights) -> None:
    with pytest.raises(InvalidInput, match="head"):
        HeadTrainer().fit(weights, made_up().samples, {})


def test_memory_is_bounded_and_of_more_samples_a_fair_part_is_held() -> None:
    size, most, start = 256, 1 << 20, heads.initial([256, 10])
    rng = np.random.default_rng(0)
    stream = ((rng.normal(size=size).astype(np.float32), int(place >= 2500)) for place in range(5000))
    HeadTrainer().fit(start, made_up(4, size, 10).samples, {})  # what numpy loads once
    tracemalloc.start()
    fitted = HeadTrainer().fit(start, stream, {"epochs": 1, "most_bytes": most})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    head, batch = sum(each.nbytes for each in start.values()), 256 * size * 4
    assert fitted.examples == most // (4 * size + 160)
    assert peak < most + 6 * head + 2 * batch + (64 << 10)  # the stream is of 5 MB
    assert fitted.metrics["accuracy_after"] > 0.4  # both halves of the stream are there


@pytest.mark.parametrize(("proximal", "times"), [(0.0, 4), (0.1, 6)])
def test_a_large_head_is_in_memory_a_few_times(proximal: float, times: int) -> None:
    start, data = heads.initial([1024, 512]), made_up(16, 1024, 512).samples
    tracemalloc.start()
    HeadTrainer().fit(start, data, {"epochs": 2, "proximal": proximal})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < times * start["head.0.weight"].nbytes + (512 << 10)


def test_a_head_starts_by_what_the_bundle_declares() -> None:
    trainer: Trainer = HeadTrainer(16)
    assert {name: array.shape for name, array in trainer.init(session()).items()} == {
        "head.0.weight": (64, 16),
        "head.0.bias": (16,),
        "head.1.weight": (16, 10),
        "head.1.bias": (10,),
    }


def test_a_bundle_without_features_says_how_to_get_some() -> None:
    with Session(bundles.linear(1), bundles.INTERFACE, [EngineNeed("onnxruntime")]) as without:
        with pytest.raises(InvalidInput, match="declares no features"):
            HeadTrainer().init(without)
        with pytest.raises(InvalidInput, match="declares no features"):
            features.of(without, np.zeros((1, 4), np.float32))


def test_samples_become_features_one_by_one() -> None:
    x = np.zeros((1, 32, 32, 3), np.int8)
    made = features.samples(session(), iter([(x, 3), (x, 4)]))
    row, label = next(made)
    assert row.shape == (64,)
    assert row.dtype == np.float32
    assert label == 3


FEATURES = Features("t", 4, 0.5, -128)


def test_features_are_what_the_integers_stand_for() -> None:
    raw = {"t": np.array([[-128, -127, 0, 127]], np.int8), "y": np.zeros(3)}
    assert rows_of(FEATURES, raw).tolist() == [[0.0, 0.5, 64.0, 127.5]]


def test_the_interface_tells_of_features_and_of_none_as_before() -> None:
    told = Interface(bundles.INTERFACE.inputs, bundles.INTERFACE.outputs, features=FEATURES)
    assert Interface.of(told.as_dict()) == told
    assert "features" not in bundles.INTERFACE.as_dict()


@pytest.mark.parametrize(
    "odd",
    [
        {"scale": 0},
        {"scale": float("nan")},
        {"size": 0},
        {"size": 1 << 21},
        {"zero_point": 0.5},
        {"tensor": 3},
        {"x": 1},
    ],
)
def test_odd_features_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Features.of({**FEATURES.as_dict(), **odd})
