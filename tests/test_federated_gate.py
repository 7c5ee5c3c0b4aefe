"""What a round has learned goes into the float model and is held beside the one before: real models, real answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import target as targets
from edgekit.building.order import Order
from edgekit.bundle_diff import Change, changes
from edgekit.errors import BundleError, ConversionError, DataError
from edgekit.federated import lineage
from edgekit.federated.deepening import deepened
from edgekit.federated.gate import Gate
from edgekit.federated.lineage import Lineage
from edgekit.federated.merging import head_of
from edgekit.federated.paired import Paired
from edgekit.model import Model, open_model
from edgekit.passes import head
from edgekit_runtime.manifest import Manifest
from edgekit_train import heads
from edgekit_train.update import Weights
from tests.lab.bundles import contents, make_bundle
from tests.lab.models import DIGITS, RESNET8, digits_order, outputs_of, shared

PI = targets.load("pi")
LINEAGE = Lineage(7, "5c" * 16, f"sha256:{'a' * 64}", "fedavg", "head", 18, 3240, 3, Paired(100, 89, 2, 5))


def digits() -> Model:
    return open_model(DIGITS / "digits.onnx")


def turned(weights: Weights, share: float) -> Weights:
    """The head with so much of another one in it."""
    rng = np.random.default_rng(3)
    noise = {name: rng.normal(size=array.shape) * np.abs(array).max() for name, array in weights.items()}
    return {name: (array + share * noise[name]).astype(np.float32) for name, array in weights.items()}


def never(model: Model) -> Weights:
    raise AssertionError(f"nobody asks for the moments of {model}")


def right(model: Model, count: int) -> np.ndarray:
    """Which of the first evaluation samples it answers rightly, by its engine alone."""
    with np.load(DIGITS / "evaluation.npz") as data:
        rows = zip(data["x"][:count], data["labels"][:count], strict=True)
        name = model.inputs[0].name
        return np.array([next(iter(outputs_of(model, {name: x[None]}).values())).argmax() == y for x, y in rows])


class TestComparison:
    def test_counts_what_the_engine_says_answer_by_answer(self, tmp_path: Path) -> None:
        count = 60
        with np.load(DIGITS / "evaluation.npz") as data:
            np.savez(tmp_path / "few.npz", x=data["x"][:count], labels=data["labels"][:count])
        source = digits()
        after = head.merged(source, turned(head.weights_of(source), 0.3), tmp_path / "after.onnx")
        gate = Gate(PI, digits_order(evaluation=str(tmp_path / "few.npz")))
        found = gate.compared(source, after)
        a, b = right(source, count), right(after, count)
        assert found == Paired(count, int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()))
        assert found.lost > found.gained
        assert found.worse
        assert not gate.compared(after, source).worse

    def test_the_same_model_is_not_worse(self) -> None:
        found = Gate(PI, digits_order(features=True)).compared(digits(), digits())
        assert (found.lost, found.gained, found.worse) == (0, 0, False)

    def test_without_labels_nobody_can_say(self, tmp_path: Path) -> None:
        with np.load(DIGITS / "evaluation.npz") as data:
            np.savez(tmp_path / "bare.npz", x=data["x"][:9])
        with pytest.raises(DataError, match="no sample with a class to judge a round by"):
            Gate(PI, digits_order(evaluation=str(tmp_path / "bare.npz"))).compared(digits(), digits())

    def test_data_that_are_not_there_are_told_before_anything_is_converted(self) -> None:
        with pytest.raises(DataError, match="no such evaluation data"):
            Gate(PI, digits_order(evaluation="none.npz")).compared(digits(), digits())


class TestMerging:
    @pytest.mark.parametrize("trainer", ["head", "bias"])
    def test_a_head_is_taken_as_it_is(self, trainer: str) -> None:
        weights = turned(head.weights_of(digits()), 0.3)
        assert head_of(digits(), trainer, weights, never) is weights

    def test_moments_are_folded_into_the_head_that_is_there(self) -> None:
        """Features that are three times as large and one higher on the devices, and what the head says stays."""
        source = digits()
        before = Gate(PI, digits_order()).moments_of(source)
        mean, square = before["features.mean"], before["features.square"]
        after = {"features.mean": 3 * mean + 1, "features.square": 9 * square + 6 * mean + 1}
        own, new = head.weights_of(source), head_of(source, "moments", after, lambda model: before)
        rows = np.random.default_rng(5).random((50, mean.size)).astype(np.float32) * np.sqrt(square)
        moves = square - mean**2 > 1e-4 * square.max()  # what never moves is only shifted
        rows[:, ~moves] = mean[~moves]
        shifted = np.where(moves, 3 * rows + 1, 3 * mean + 1).astype(np.float32)
        want, have = (heads.logits(heads.layers(each), x) for each, x in ((own, rows), (new, shifted)))
        assert np.allclose(want, have, atol=0.02 * np.abs(want).max())

    def test_moments_are_those_of_the_calibration_data(self) -> None:
        source = digits()
        found = Gate(PI, digits_order()).moments_of(source)
        size = head.weights_of(source)["head.0.weight"].shape[0]
        assert found["features.mean"].shape == found["features.square"].shape == (size,)
        assert (found["features.square"] >= found["features.mean"] ** 2 * 0.999).all()

    def test_those_of_a_model_with_a_hidden_layer_are_of_what_its_head_takes(self, tmp_path: Path) -> None:
        """Not of what its last layer takes: they are folded into the first one."""
        source = digits()
        own, before = head.weights_of(source), Gate(PI, digits_order()).moments_of(source)
        deep = head.merged(source, deepened(own, 32), tmp_path / "deep.onnx")
        found = Gate(PI, digits_order()).moments_of(deep)
        assert all(np.allclose(found[name], before[name], rtol=1e-4) for name in before)
        folded = head_of(deep, "moments", {**before, "features.mean": before["features.mean"] + 1}, lambda model: found)
        assert folded.keys() == deepened(own, 32).keys()
        assert not np.allclose(folded["head.0.bias"], head.weights_of(deep)["head.0.bias"], atol=1e-3)

    def test_what_is_no_head_is_refused(self) -> None:
        with pytest.raises(ConversionError, match="what 'hedge' has learned is no head") as told:
            head_of(digits(), "hedge", {}, never)
        assert "head, bias, mlp, moments or signature" in str(told.value.hint)


@pytest.mark.slow
def test_moments_of_pictures_in_fog_make_a_tflite_model_better(tmp_path: Path) -> None:
    """ResNet-8 was never shown fog; what the features are there is all that it is told."""
    with np.load(shared("data/cifar10.npz")) as data:
        clear, foggy = data["calib_x"][:300], np.clip(0.4 * data["calib_x"][:300] + 130, 0, 255)
        seen = np.clip(0.4 * data["test_x"][:300] + 130, 0, 255)
        np.savez(tmp_path / "evaluation.npz", x=seen.astype(np.float32), labels=data["test_y"][:300])
    for name, x in (("clear", clear), ("foggy", foggy)):
        np.savez(tmp_path / f"{name}.npz", x=x.astype(np.float32))
    order = Order("cifar", "1", "clear.npz", "evaluation.npz", tmp_path, 1)
    source = open_model(shared(RESNET8.model))
    there = Gate(PI, replace(order, calibration="foggy.npz")).moments_of(source)
    learned = head_of(source, "moments", there, Gate(PI, order).moments_of)
    after = head.merged(source, learned, tmp_path / "after.tflite")
    found = Gate(PI, order).compared(source, after)
    assert found.after > found.before + 0.05
    assert not found.worse


class TestLineage:
    def manifest(self, told: object) -> Manifest:
        return replace(contents().manifest, provenance={"round": told})

    def test_stands_in_the_manifest_and_is_read_again(self) -> None:
        assert lineage.of(self.manifest(LINEAGE.as_dict())) == LINEAGE
        assert lineage.of(contents().manifest) is None

    def test_in_a_line(self) -> None:
        assert LINEAGE.told == (
            f"7 ({'5c' * 16}) of 18 devices, 3,240 examples by fedavg, head of model sha256:aaaaaaaaaaaa, upon 2 before"
        )
        of_one = replace(LINEAGE, devices=1, examples=0, rounds=1)
        assert of_one.told == f"7 ({'5c' * 16}) of 1 device by fedavg, head of model sha256:aaaaaaaaaaaa"
        hidden = replace(of_one, devices=0)
        assert (
            hidden.told == f"7 ({'5c' * 16}) of devices that noise hides by fedavg, head of model sha256:aaaaaaaaaaaa"
        )
        assert LINEAGE.evaluation is not None
        assert LINEAGE.evaluation.told == ("accuracy 0.9100 → 0.9400 on 100 evaluation samples (5 more right, 2 fewer)")

    def test_a_diff_of_two_bundles_shows_both(self, tmp_path: Path) -> None:
        told = [{"round": each.as_dict()} for each in (LINEAGE, replace(LINEAGE, number=8, key="6d" * 16, rounds=4))]
        plain, first, second = (make_bundle(tmp_path / str(i), provenance=each) for i, each in enumerate([{}, *told]))
        assert changes(first, second) == (
            Change("provenance.round.key", LINEAGE.key, "6d" * 16),
            Change("provenance.round.number", 7, 8),
            Change("provenance.round.rounds", 3, 4),
        )
        assert Change("provenance.round.key", None, LINEAGE.key) in changes(plain, first)

    @pytest.mark.parametrize(
        "told",
        [1, {}, {**LINEAGE.as_dict(), "devices": -1}, {**LINEAGE.as_dict(), "evaluation": {"samples": 0}}],
    )
    def test_another_ones_is_refused(self, told: object) -> None:
        with pytest.raises(BundleError, match="digits: its round cannot be read"):
            lineage.of(self.manifest(told))


@given(st.lists(st.integers(0, 10**6), min_size=4, max_size=4).filter(any))
def test_a_comparison_is_told_and_read_again(counts: list[int]) -> None:
    both, lost, gained, neither = counts
    found = Paired(sum(counts), both, lost, gained)
    assert Paired.of(found.as_dict()) == found
    assert found.worse == (found.after < found.before)
    assert 0 <= neither <= found.samples
