from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_runtime import durable
from edgekit_runtime.errors import InvalidInput
from edgekit_train import arrays_file, hedge, normalization
from edgekit_train.head_trainer import HeadTrainer
from edgekit_train.heads import initial, loss
from edgekit_train.hedge import HedgeTrainer
from edgekit_train.hedged_heads import ALPHA, HedgedHeads
from edgekit_train.normalization import MEAN, SQUARE, NormalizationTrainer
from edgekit_train.online import OnlineTrainer
from edgekit_train.replay import Bounds, Replay
from edgekit_train.trainer import added
from tests.runtime.learning import accuracy, rows, session, shipped

SMALL = Bounds(4, 3, 40 * 20 + 27)


def filled(labels: list[int], bounds: Bounds = SMALL, seed: int = 0) -> Replay:
    replay = Replay(bounds, seed)
    for place, label in enumerate(labels):
        replay.add(np.full(bounds.size, place, np.float32), label)
    return replay


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=150), st.integers(0, 99))
def test_rare_classes_keep_all_they_have(labels: list[int], seed: int) -> None:
    """Chrysakis and Moens 2020: what leaves the buffer is of a largest class."""
    replay, counts = filled(labels, seed=seed), np.bincount(labels, minlength=3)
    assert len(replay) == min(len(labels), SMALL.capacity)
    assert (replay.held <= counts).all()
    for seen, held in zip(counts, replay.held, strict=True):
        assert held == seen or held >= SMALL.capacity // 3


def test_of_a_common_class_each_sample_is_held_as_likely() -> None:
    found = np.concatenate([filled([0] * 200, seed=seed).some(40)[0][:, 0] for seed in range(60)])
    assert found.mean() == pytest.approx(99.5, abs=5)


def test_a_buffer_survives_a_restart_and_goes_on_as_if_there_was_none(tmp_path: Path) -> None:
    labels, path = [0, 1, 0, 0, 2] * 40, tmp_path / "deep" / "replay.npz"
    filled(labels[:120]).save(path)
    again = Replay(SMALL)
    assert again.restore(path)
    for place, label in enumerate(labels[120:], 120):
        again.add(np.full(4, place, np.float32), label)
    whole = filled(labels)
    assert all(np.array_equal(a, b) for a, b in zip(again.some(40), whole.some(40), strict=True))


@pytest.mark.parametrize("damage", ["missing", "torn", "text", "large", "other"])
def test_a_damaged_file_is_no_buffer_and_harms_none(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "replay.npz"
    filled([0, 1, 2], Bounds(5, 3) if damage == "other" else SMALL).save(path)
    data = path.read_bytes()
    changed = {"torn": data[:-30], "text": b"not an archive", "large": data + bytes(1 << 20)}
    path.write_bytes(changed.get(damage, data))
    if damage == "missing":
        path.unlink()
    replay = filled([1])
    assert not replay.restore(path)
    assert len(replay) == 1


def test_numbers_that_are_not_finite_come_neither_from_a_sensor_nor_from_a_file(tmp_path: Path) -> None:
    replay = filled([0, 1])
    with pytest.raises(InvalidInput, match="not finite"):
        replay.add(np.array([0, np.nan, 0, 0]), 0)
    replay._rows[0, 0] = np.inf
    replay.save(tmp_path / "replay.npz")
    assert not Replay(SMALL).restore(tmp_path / "replay.npz")


def test_the_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "replay.npz"
    filled([0, 1]).save(path)

    def cut(*_: Any) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(durable, "check_file", cut)
    with pytest.raises(OSError, match="power"):
        filled([2] * 30).save(path)
    again = Replay(SMALL)
    assert again.restore(path)
    assert again.held.tolist() == [1, 1, 0]


def test_an_archive_that_unpacks_to_more_than_it_may_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1 << 22))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    assert arrays_file.read(tmp_path / "bomb.npz", 1 << 20) is None


def test_the_buffer_takes_no_more_bytes_than_it_may() -> None:
    bounds = Bounds(64, 10, 256 << 10)
    tracemalloc.start()
    replay = Replay(bounds)
    for place in range(2000):
        replay.add(np.ones(64, np.float32), place % 10)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(replay) == bounds.capacity
    assert held < bounds.most_bytes + (8 << 10)


def test_replay_keeps_what_plain_online_learning_forgets() -> None:
    """The pictures come class by class, as a day of one thing is followed by a day of another."""
    foggy, start = rows(), shipped()
    order = np.argsort(foggy.y[:600], kind="stable")
    samples = [foggy.samples[place] for place in order]
    found = {}
    for count in (0, 16):
        trainer = OnlineTrainer(Replay(Bounds(64, 10, 60_000)))
        fitted = trainer.fit(start, samples, {"replay": count, "rate": 0.05})
        found[count] = accuracy(added(start, fitted.delta), foggy.part(600, 1000))
        assert fitted.examples == 600
    assert found[16] > found[0] + 0.15
    assert found[16] > accuracy(start, foggy.part(600, 1000)) + 0.05


def test_online_learning_in_parts_is_that_of_the_whole() -> None:
    """Nothing but weights and buffer goes from one call to the next."""
    samples, start = rows().samples[:60], shipped()
    whole = OnlineTrainer(Replay(Bounds(64, 10)))
    want = added(start, whole.fit(start, samples, {}).delta)
    parts, weights = OnlineTrainer(Replay(Bounds(64, 10))), start
    for begin in range(0, 60, 20):
        weights = added(weights, parts.fit(weights, samples[begin : begin + 20], {}).delta)
    assert all(np.allclose(weights[name], want[name], atol=1e-5) for name in want)


def test_hedged_gradients_are_those_of_the_weighted_loss() -> None:
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(size=a.shape).astype(np.float64) for n, a in HedgeTrainer(2, 5).of_sizes(4, 3).items()}
    weights[ALPHA] = np.array([0.5, 0.3, 0.2])
    net, x, y = HedgedHeads.of(weights), rng.normal(size=(1, 4)), np.array([1])

    def total() -> float:
        return float(sum(share * loss(each, y) for share, each in zip(net.alpha, net.answers(x)[1], strict=True)))

    net.body, net.exits = (
        [tuple(a.astype(np.float64) for a in pair) for pair in part] for part in (net.body, net.exits)
    )
    net.alpha = net.alpha.astype(np.float64)
    for layer, slopes in zip(net.layers, net.gradient(*net.answers(x), y), strict=True):
        for array, slope in zip(layer, slopes, strict=True):
            at = tuple(size // 2 for size in array.shape)
            was, ends = array[at], []
            for step in (1e-6, -1e-6):
                array[at] = was + step
                ends.append(total())
            array[at] = was
            assert slope[at] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-5)


def test_hedged_heads_learn_online_from_nothing() -> None:
    foggy, trainer = rows(), HedgeTrainer(depth=1)
    start = trainer.init(session())
    learned = added(start, trainer.fit(start, foggy.part(0, 600).samples * 3, {"rate": 0.2}).delta)
    right = hedge.probabilities(learned, foggy.part(600, 1000).x).argmax(axis=-1) == foggy.part(600, 1000).y
    assert right.mean() > 0.1 + 0.25
    assert learned[ALPHA].sum() == pytest.approx(1, abs=1e-4)


def test_the_head_that_answers_well_gets_more_and_no_head_is_given_up() -> None:
    net = HedgedHeads.of(HedgeTrainer(2, 5).of_sizes(4, 3))
    for _ in range(500):
        net.judge([2.0, 0.1, 3.0])
    assert net.alpha[1] == net.alpha.max() > 0.8
    assert net.alpha.min() >= 0.2 / 3 / 1.2
    assert net.alpha.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("gone", ["exit.1.bias", "hidden.0.weight", ALPHA])
def test_hedged_heads_without_one_of_their_parts_are_refused(gone: str) -> None:
    weights = HedgeTrainer(2, 5).of_sizes(4, 3)
    with pytest.raises(InvalidInput):
        HedgedHeads.of({name: array for name, array in weights.items() if name != gone})


def test_hedged_heads_with_parts_that_fit_not_are_refused() -> None:
    weights = HedgeTrainer(2, 5).of_sizes(4, 3)
    wide = {"exit.1.weight": np.zeros((6, 3), np.float32)}
    fewer = {"exit.2.weight": np.zeros((5, 2), np.float32), "exit.2.bias": np.zeros(2, np.float32)}
    more = {"exit.9.weight": np.zeros((5, 3), np.float32), "exit.9.bias": np.zeros(3, np.float32)}
    odd = {"x": np.zeros(1, np.float32)}
    for changes in (wide, fewer, more, odd, {ALPHA: np.ones(2, np.float32)}):
        with pytest.raises(InvalidInput, match=r"^(heads of|exit\.9\.bias is no part|x is no part|3 heads with)"):
            HedgeTrainer().fit({**weights, **changes}, [(np.zeros(4), 0)], {})


@pytest.mark.parametrize("depth", [1, 7])
def test_a_hedge_takes_the_heads_that_it_makes(depth: int) -> None:
    trainer = HedgeTrainer(depth, 5)
    assert trainer.fit(trainer.of_sizes(4, 3), [(np.zeros(4), 0)], {}).examples == 1


@pytest.mark.parametrize(("depth", "units"), [(0, 32), (8, 32), (3, 0)])
def test_a_hedge_of_other_depths_is_none(depth: int, units: int) -> None:
    with pytest.raises(ValueError, match="where 1 to 7 can be"):
        HedgeTrainer(depth, units)


def by_samples() -> list[tuple[Any, dict[str, Any]]]:
    head = initial([4, 3])
    return [
        (HeadTrainer(), head),
        (OnlineTrainer(Replay(SMALL)), head),
        (HedgeTrainer(2, 5), HedgeTrainer(2, 5).of_sizes(4, 3)),
    ]


@pytest.mark.parametrize("label", [1.5, 1.9, np.float32(2), "1", None], ids=repr)
def test_what_is_no_class_is_told_by_all(label: Any) -> None:
    for trainer, weights in by_samples():
        with pytest.raises(InvalidInput, match="is no whole number"):
            trainer.fit(weights, [(np.ones(4), label)], {})
    with pytest.raises(InvalidInput, match="is no whole number"):
        Replay(SMALL).add(np.ones(4), label)


@pytest.mark.parametrize("label", [True, np.int64(1), np.uint8(1)], ids=repr)
def test_any_whole_number_is_a_class(label: Any) -> None:
    for trainer, weights in by_samples():
        one, two = (trainer.fit(weights, [(np.ones(4), each)], {}).delta for each in (1, label))
        assert all(one[name].tobytes() == two[name].tobytes() for name in one)


@pytest.mark.parametrize("sample", ["abc", None, [[1], [2, 3]], {"x": 1}, np.ones(4) * 1e300], ids=repr)
def test_what_is_no_sample_is_told_by_all(sample: Any) -> None:
    for trainer, weights in by_samples():
        with pytest.raises(InvalidInput, match="a sample"):
            trainer.fit(weights, [(sample, 0)], {})


@pytest.mark.parametrize("before", [3, 400])
def test_a_call_that_fails_leaves_the_buffer_as_it_was(before: int, tmp_path: Path) -> None:
    """Whether it was full or not; and what is drawn later is what would have been drawn."""
    labels = [place % 3 for place in range(before)]
    replay, untouched = filled(labels), filled(labels)
    good = [(np.full(4, 0.1 * place), place % 3) for place in range(60)]
    for bad in [(np.ones(4), 7)], [(np.ones(5), 0)]:
        with pytest.raises(InvalidInput):
            OnlineTrainer(replay).fit(initial([4, 3]), good + bad, {})
        replay.save(tmp_path / "one")
        untouched.save(tmp_path / "other")
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    for each in (replay, untouched):
        OnlineTrainer(each).fit(initial([4, 3]), good, {})
    assert all(np.array_equal(a, b) for a, b in zip(replay.some(40), untouched.some(40), strict=True))


def test_a_buffer_that_could_not_be_read_again_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4096 bytes, where one sample and 1001 classes take 17205"):
        Bounds(2048, 1001, 4096)
    for odd in ((0, 3), (4, 0)):
        with pytest.raises(ValueError, match="where one sample"):
            Bounds(*odd)
    least = Bounds(2048, 1001, 17205)
    filled([5, 7], least).save(tmp_path / "replay.npz")
    again = Replay(least)
    assert again.restore(tmp_path / "replay.npz")
    assert len(again) == least.capacity == 1


def test_the_moments_of_a_device_help_without_a_label() -> None:
    clear, foggy, start = rows("calib", fog=False), rows(), shipped()
    before, _ = normalization.moments(clear.x, 64)
    fitted = NormalizationTrainer(before).fit(before, foggy.part(0, 600).samples, {})
    head = normalization.folded(start, before, added(before, fitted.delta))
    assert accuracy(head, foggy.part(600, 1000)) > accuracy(start, foggy.part(600, 1000)) + 0.08
    assert fitted.examples == 600


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_folding_undoes_a_stretch_and_a_shift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(50, 4)) * rng.uniform(0.5, 2, 4) + rng.normal(size=4)
    moved = x * rng.uniform(0.5, 2, 4) + rng.normal(size=4)
    head = {"head.0.weight": rng.normal(size=(4, 3)).astype(np.float32), "head.0.bias": np.ones(3, np.float32)}
    before, after = (normalization.moments(each, 4)[0] for each in (x, moved))
    made = normalization.folded(head, before, after)
    want, got = (part @ each["head.0.weight"] + each["head.0.bias"] for part, each in ((x, head), (moved, made)))
    assert np.allclose(want, got, atol=1e-2)


@settings(max_examples=50, deadline=None)
@given(st.floats(-6, 0), st.floats(-3, 6), st.integers(0, 2**32 - 1))
def test_what_float32_does_not_tell_of_a_spread_stretches_nothing(ratio: float, mean: float, seed: int) -> None:
    """Two devices see the same, and their moments go the way of a round, as differences and means of float32. However
    small the deviation is beside its mean, the head stays what it is but for a twentieth.
    """
    rng = np.random.default_rng(seed)
    x = 10**mean * (1 + 10**ratio * rng.normal(size=(2000, 1)))
    before, _ = normalization.moments(x, 1)
    trainer, start = NormalizationTrainer(before), {name: array * np.float32(1.1) for name, array in before.items()}
    sent = [trainer.fit(start, [(row, 0) for row in part], {}).delta for part in (x[:1000], x[1000:])]
    both = {name: (sent[0][name] + sent[1][name]) / np.float32(2) for name in start}
    head = {"head.0.weight": np.ones((1, 2), np.float32), "head.0.bias": np.zeros(2, np.float32)}
    made = normalization.folded(head, before, added(start, both))
    assert np.allclose(made["head.0.weight"], 1, atol=0.05)


def test_a_spread_far_below_its_mean_is_only_shifted() -> None:
    x = np.random.default_rng(0).normal(300, 0.1, (500, 200))
    before, after = (normalization.moments(part, 200)[0] for part in (x[:250], x[250:] + 1))
    head = {"head.0.weight": np.ones((200, 1), np.float32), "head.0.bias": np.zeros(1, np.float32)}
    made = normalization.folded(head, before, after)
    assert (made["head.0.weight"] == 1).all()
    assert made["head.0.bias"] == pytest.approx(-200, abs=2)


def test_a_feature_that_never_moves_is_only_shifted() -> None:
    x = np.array([[1.0, 0.0], [3.0, 0.0]])
    before, after = normalization.moments(x, 2)[0], normalization.moments(np.add(x, [0.0, 5.0]), 2)[0]
    head = {"head.0.weight": np.ones((2, 1), np.float32), "head.0.bias": np.zeros(1, np.float32)}
    assert normalization.folded(head, before, after)["head.0.bias"] == pytest.approx(-5)


def test_moments_of_devices_average_to_those_of_all() -> None:
    x = rows().x
    whole, parts = (
        normalization.moments(x, 64)[0],
        [normalization.moments(x[s:e], 64) for s, e in ((0, 300), (300, 1000))],
    )
    for name in (MEAN, SQUARE):
        assert np.allclose(sum(found[name] * count for found, count in parts) / 1000, whole[name], atol=1e-4)
