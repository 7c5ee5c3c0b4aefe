from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgekit.data.dataset import Sample
from edgekit.errors import EngineError
from edgekit.model import open_model
from edgekit.quantization import fidelity
from edgekit.quantization.fidelity import BEST_DB, SAMPLES, WORST_DB, Reference, settled
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.models import onnx_model

DB = pytest.approx


def scaled(path: Path, factor: float, shape: tuple[int, ...] = (1, 8)) -> Session:
    """x → y = x · factor."""
    size = ["N", *shape[1:]]
    nodes, weights = [helper.make_node("Mul", ["x", "f"], ["y"])], {"f": np.float32(factor)}
    model = open_model(onnx_model(path, nodes, {"x": size}, {"y": size}, weights))  # type: ignore[arg-type]
    return Session(path.read_bytes(), Interface(model.inputs, model.outputs), [EngineNeed("onnxruntime")])


class Function(Session):
    """A session that computes what a test wants."""

    def __init__(self, compute: Callable[[Any], dict[str, Any]]) -> None:
        self._compute = compute

    def predict(self, inputs: Any) -> dict[str, Any]:
        return self._compute(inputs["x"])


def samples(count: int = 4, shape: tuple[int, ...] = (1, 8)) -> list[Sample]:
    rng = np.random.default_rng(0)
    return [Sample({"x": rng.normal(size=shape).astype(np.float32)}) for _ in range(count)]


def between(
    one: Callable[[Any], dict[str, Any]], other: Callable[[Any], dict[str, Any]], shape: tuple[int, ...] = (1, 8)
) -> float:
    return Reference.of(Function(one), samples(shape=shape)).sqnr_db(Function(other))


class TestReference:
    def test_the_first_samples_are_kept_with_what_the_model_gives(self, tmp_path: Path) -> None:
        given = samples(SAMPLES + 5)
        with scaled(tmp_path / "m.onnx", 2) as session:
            found = Reference.of(session, given)
        assert found.samples == given[:SAMPLES]
        assert all(
            np.array_equal(outputs["y"], 2 * sample.inputs["x"])
            for outputs, sample in zip(found.outputs, given, strict=False)
        )
        assert (len(found.first(3).samples), len(found.first(3).outputs)) == (3, 3)

    def test_no_more_is_read_of_the_data_than_is_kept(self) -> None:
        def stream() -> Iterator[Sample]:
            yield from samples(SAMPLES)
            raise AssertionError("read on")

        assert len(Reference.of(Function(lambda x: {"y": x}), stream()).samples) == SAMPLES

    def test_large_outputs_make_for_fewer_samples(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fidelity, "BYTES", 3 * 64)
        assert len(Reference.of(Function(lambda x: {"y": x}), samples(9)).samples) == 4

    def test_of_few_samples(self) -> None:
        assert len(Reference.of(Function(lambda x: {"y": x}), samples(1)).samples) == 1


class TestSqnr:
    def test_a_tenth_off_is_twenty_decibels(self, tmp_path: Path) -> None:
        with scaled(tmp_path / "a.onnx", 1) as one, scaled(tmp_path / "b.onnx", 1.1) as other:
            assert Reference.of(one, samples()).sqnr_db(other) == DB(20, abs=1e-4)

    def test_the_same_is_best(self) -> None:
        assert between(lambda x: {"y": x}, lambda x: {"y": x}) == BEST_DB

    def test_the_unit_does_not_matter(self) -> None:
        def noisy(factor: float) -> float:
            return between(lambda x: {"y": factor * x}, lambda x: {"y": factor * (x + 0.01 * np.sin(99 * x))})

        assert noisy(1e-6) == DB(noisy(1), abs=1e-3)
        assert noisy(1e6) == DB(noisy(1), abs=1e-3)

    def test_every_output_weighs_the_same_however_small(self) -> None:
        def two(small: float) -> Callable[[Any], dict[str, Any]]:
            return lambda x: {"y": 1000 * x, "z": small * x}

        assert between(two(0.001), two(0.0011)) == DB(20 + 10 * math.log10(2), abs=1e-3)

    def test_so_does_every_column_of_an_output_of_mixed_scales(self) -> None:
        """Boxes in pixels beside a score: a score that is wrong by a third is not drowned."""
        scales = np.array([640, 640, 640, 640, 0.1], np.float32).reshape(1, 5, 1)
        wrong = scales * np.array([1, 1, 1, 1, 4 / 3], np.float32).reshape(1, 5, 1)
        found = between(lambda x: {"y": x * scales}, lambda x: {"y": x * wrong}, shape=(1, 5, 400))
        assert found == DB(10 * math.log10(5 * 9), abs=0.1)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_worst(self, bad: float) -> None:
        assert between(lambda x: {"y": x}, lambda x: {"y": x * np.float32(bad)}) == WORST_DB

    def test_another_shape_is_worst(self) -> None:
        assert between(lambda x: {"y": x}, lambda x: {"y": x[:, :4]}) == WORST_DB

    def test_a_model_that_cannot_be_run_is_worst(self) -> None:
        def fail(x: Any) -> dict[str, Any]:
            raise EngineError("no kernel", "")

        assert between(lambda x: {"y": x}, fail) == WORST_DB

    def test_of_outputs_that_are_zero(self) -> None:
        def zero(x: Any) -> dict[str, Any]:
            return {"y": 0 * x}

        assert between(zero, zero) == BEST_DB
        assert between(zero, lambda x: {"y": x}) == WORST_DB

    def test_whole_numbers_do_not_wrap_around(self) -> None:
        found = between(
            lambda x: {"y": np.full((1, 4), 200, np.uint8)}, lambda x: {"y": np.full((1, 4), 220, np.uint8)}
        )
        assert found == DB(20)


def loss(one: Callable[[Any], dict[str, Any]], other: Callable[[Any], dict[str, Any]]) -> float:
    return Reference.of(Function(one), samples(8)).loss(Function(other))


def logits(x: Any) -> dict[str, Any]:
    return {"y": 3 * x}


def disturbed(share: float) -> Callable[[Any], dict[str, Any]]:
    return lambda x: {"y": 3 * x + share * np.sin(99 * x)}


class TestLoss:
    def test_it_is_least_for_what_is_the_same(self) -> None:
        assert loss(logits, logits) == DB(0, abs=1e-12)
        assert loss(lambda x: {"y": x[..., None]}, lambda x: {"y": x[..., None]}) == 0

    def test_a_constant_added_to_all_logits_is_no_loss(self) -> None:
        assert loss(logits, lambda x: {"y": 3 * x + 5}) == DB(0, abs=1e-9)

    def test_of_logits_and_of_their_probabilities_it_is_the_same(self) -> None:
        def softmax(x: Any) -> Any:
            return np.exp(x) / np.exp(x).sum(1, keepdims=True)

        both = loss(logits, lambda x: {"y": 3.1 * x})
        assert both == DB(loss(lambda x: {"y": softmax(3 * x)}, lambda x: {"y": softmax(3.1 * x)}), rel=1e-4)
        assert both > 0

    def test_more_noise_is_more_loss(self) -> None:
        found = [loss(logits, disturbed(share)) for share in (0.01, 0.1, 1, 10)]
        assert found == sorted(found)
        assert found[0] > 0

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_no_number_or_cannot_be_run_is_infinite(self, bad: float) -> None:
        def fail(x: Any) -> dict[str, Any]:
            raise EngineError("no kernel", "")

        assert loss(logits, lambda x: {"y": x * np.float32(bad)}) == math.inf
        assert loss(logits, fail) == math.inf
        assert loss(logits, lambda x: {"y": x[:, :4]}) == math.inf


@pytest.mark.parametrize(
    ("losses", "done"),
    [
        ([0.004], True),
        ([0.02], False),
        ([0.02, 0.004], True),
        ([0.5, 0.499], True),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.399], False),
        ([math.inf], False),
        ([math.inf, 0.5], False),
        ([math.inf, math.inf], False),
    ],
)
def test_no_other_ranges_are_tried_after_good_ones_or_where_they_do_not_matter(losses: list[float], done: bool) -> None:
    assert settled(losses) == done
