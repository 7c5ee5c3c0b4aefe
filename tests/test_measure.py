from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit import target as targets
from edgekit.building.candidate import Candidate
from edgekit.building.latency import Latency
from edgekit.building.measure import TURN, Measured, Tally, evaluate, measured, retrace
from edgekit.building.recipe import Recipe
from edgekit.data.dataset import Sample
from edgekit.errors import DataError, ModelError
from edgekit.model import Format, open_model
from edgekit.precision import Calibrator, Precision, Quantization
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.compare import Outputs
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.models import dense, onnx_model

TIME = Latency(10.0, 12.0, 9.9, 10.1)
INT8 = Measured("onnx-int8", "onnx", "onnxruntime", "int8", 2**18, 100, 0.97, 0.895, 0.3, TIME, "mse")


def opened(path: Path) -> Session:
    model = open_model(path)
    return Session(path.read_bytes(), Interface(model.inputs, model.outputs), [EngineNeed("onnxruntime")])


def other(path: Path) -> Path:
    """As ``dense``, with weights that were disturbed."""
    model = onnx.load(dense(path))
    weights = numpy_helper.to_array(model.graph.initializer[0])
    noise = np.random.default_rng(2).normal(size=weights.shape).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights + noise / 2, "w"))
    onnx.save(model, path)
    return path


class TestMeasure:
    @pytest.fixture
    def session(self, tmp_path: Path) -> Iterator[Session]:
        with opened(dense(tmp_path / "m.onnx")) as session:
            yield session

    def samples(self, session: Session, count: int = 30, labels: bool = True) -> list[Sample]:
        """Samples labelled by what the model itself says, every third one wrongly."""
        found = []
        for index in range(count):
            x = np.random.default_rng(index).normal(size=(1, 8)).astype(np.float32)
            answer = int(session.predict({"x": x})["scores"].argmax())
            found.append(Sample({"x": x}, (answer + (index % 3 == 0)) % 4 if labels else None))
        return found

    def test_a_model_agrees_with_itself_and_is_right_where_it_is(self, session: Session) -> None:
        first, second = evaluate([session, session], self.samples(session))
        assert (first.samples, first.agree, second.agree, second.max_abs_error) == (30, 30, 30, 0.0)
        assert first.accuracy == second.accuracy == pytest.approx(2 / 3)

    def test_without_labels_there_is_no_accuracy(self, session: Session) -> None:
        (tally,) = evaluate([session], self.samples(session, labels=False))
        assert tally.accuracy is None

    def test_only_samples_with_labels_count(self, session: Session) -> None:
        given = self.samples(session, 3)
        (tally,) = evaluate([session], [replace(given[0], label=None), *given[1:]])
        assert (tally.samples, tally.labelled, tally.accuracy) == (3, 2, 1.0)

    def test_outputs_that_are_no_class_scores_have_no_accuracy(self, tmp_path: Path) -> None:
        path = onnx_model(
            tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 2, 4]}, {"y": [1, 2, 4]}
        )
        with opened(path) as session:
            (tally,) = evaluate([session], [Sample({"x": np.ones((1, 2, 4), np.float32)}, 1)])
        assert tally.accuracy is None

    @pytest.mark.parametrize("label", [4, 100, -1])
    def test_a_label_that_is_no_class_of_the_model_is_named(self, session: Session, label: int) -> None:
        given = self.samples(session, 3)
        with pytest.raises(DataError, match=rf"sample 2: label {label}, the model has the classes 0 to 3 — renumber"):
            evaluate([session], [*given[:2], replace(given[2], label=label)])

    def test_a_float_model_that_gives_nan_is_named_with_the_sample(self, tmp_path: Path) -> None:
        path = onnx_model(tmp_path / "m.onnx", [helper.make_node("Sqrt", ["x"], ["root"])], {"x": [1]}, {"root": [1]})
        good, bad = (Sample({"x": np.array([value], np.float32)}) for value in (4, -4))
        with opened(path) as session, pytest.raises(ModelError, match="sample 1: the float model gives NaN"):
            evaluate([session], [good, bad])

    def test_a_candidate_that_gives_nan_is_infinitely_far(self, tmp_path: Path, session: Session) -> None:
        nodes = [
            helper.make_node("Sqrt", ["x"], ["root"]),
            helper.make_node("Slice", ["root", "0", "4", "1"], ["scores"]),
        ]
        places = {name: np.array([int(name)], np.int64) for name in ("0", "1", "4")}
        path = onnx_model(tmp_path / "bad.onnx", nodes, {"x": ["N", 8]}, {"scores": ["N", 4]}, places)
        with opened(path) as other:
            tally = evaluate([session, other], self.samples(session))[1]
        assert tally.max_abs_error == math.inf
        assert replace(INT8, max_abs_error=tally.max_abs_error).as_dict()["max_abs_error"] is None

    def test_of_a_stream_no_more_is_kept_than_one_turn(self, session: Session) -> None:
        """A turn is read while the one before it is still held."""
        alive, most = list[weakref.ref[Sample]](), 0

        def stream() -> Iterator[Sample]:
            nonlocal most
            for _ in range(5 * TURN):
                sample = Sample({"x": np.zeros((1, 8), np.float32)})
                alive.append(weakref.ref(sample))
                most = max(most, sum(each() is not None for each in alive))
                yield sample

        (tally,) = evaluate([session], stream())
        assert tally.samples == 5 * TURN
        assert most <= 2 * TURN + 2


class Recorder(Session):
    """A session that writes down when it is called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name, self._calls, self.interface = name, calls, Interface((), ())

    def predict(self, inputs: Any) -> Outputs:
        self._calls.append(self._name)
        return {"y": np.ones((1, 1), np.float32)}


def numbered(count: int) -> list[Sample]:
    return [Sample({"x": np.full((1, 1), index, np.float32)}) for index in range(count)]


class TestTurns:
    def test_every_session_sees_every_sample_and_none_goes_ahead(self) -> None:
        calls: list[str] = []
        tallies = evaluate([Recorder(name, calls) for name in "abc"], numbered(2 * TURN + 1))
        assert [tally.samples for tally in tallies] == [2 * TURN + 1] * 3
        for turn in range(2):
            assert sorted(calls[turn * 3 * TURN : (turn + 1) * 3 * TURN]) == sorted("abc" * TURN)


class TestRetrace:
    def reference(self, session: Session, samples: list[Sample]) -> list[Outputs]:
        return [session.predict(sample.inputs) for sample in samples]

    def test_it_tells_what_measuring_tells(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        samples = [Sample({"x": rng.normal(size=(1, 8)).astype(np.float32)}, index % 4) for index in range(30)]
        with opened(dense(tmp_path / "a.onnx")) as one, opened(other(tmp_path / "b.onnx")) as two:
            first, want = evaluate([one, two], samples)
            again = retrace(two, samples, self.reference(one, samples), lambda tally: False)
        assert again == want
        assert 0 < want.agree < 30
        assert first.agree == 30

    def test_it_ends_where_it_is_enough(self) -> None:
        calls: list[str] = []
        session, samples = Recorder("a", calls), numbered(30)
        reference = self.reference(Recorder("b", []), samples)
        tally = retrace(session, samples, reference, lambda tally: tally.samples == 7)
        assert (tally.samples, len(calls)) == (7, 7)


def test_what_a_tally_comes_to(tmp_path: Path) -> None:
    model = open_model(dense(tmp_path / "m.onnx"))
    tally = Tally(8, 6, 4, 3, 0.25)
    for precision, calibrator in ((Precision.MIXED, "entropy"), (Precision.WEIGHTS, "")):
        quantization = Quantization(precision, Calibrator.ENTROPY, frozenset({"b", "a"}))
        with opened(model.path) as session:
            candidate = Candidate(Recipe(Format.ONNX, quantization, (), ()), model, targets.load("pi"), {})
            found = measured(candidate, session, tally, TIME)
        assert found == Measured(
            f"onnx-{precision.value}",
            "onnx",
            "onnxruntime",
            precision.value,
            model.size,
            8,
            0.75,
            0.75,
            0.25,
            TIME,
            calibrator,
            ("a", "b"),
        )


def test_what_was_measured_becomes_json() -> None:
    assert replace(INT8, chosen=True).as_dict() == {
        "name": "onnx-int8",
        "format": "onnx",
        "engine": "onnxruntime",
        "precision": "int8",
        "size_bytes": 2**18,
        "samples": 100,
        "agreement": 0.97,
        "accuracy": 0.895,
        "max_abs_error": 0.3,
        "latency_ms": {"p50": 10.0, "p95": 12.0, "p50_low": 9.9, "p50_high": 10.1},
        "calibrator": "mse",
        "float_layers": (),
        "memory_mib": None,
        "on_devices": None,
        "chosen": True,
    }


class TestDeclared:
    """What edgekit.toml says of outputs."""

    def sample(self, label: int | None = None) -> Sample:
        return Sample({"x": np.zeros((1, 1), np.float32)}, label)

    def test_answers_are_compared_by_it(self) -> None:
        want, have = {"y": np.array([[1.0, 1.01]])}, {"y": np.array([[1.01, 1.0]])}
        agree = []
        for declared in ({}, {"y": Agreement("cosine")}):
            tally = Tally(agreement=declared)
            tally.add(self.sample(), want, have)
            agree.append(tally.agree)
        assert agree == [0, 1]

    def test_as_many_boxes_as_there_are_are_near(self) -> None:
        tally = Tally(agreement={"y": Agreement("boxes", columns="score, class")})
        rows = np.array([[0, 0, 9, 9, 0.9, 1], [20, 0, 29, 9, 0.2, 1]])
        tally.add(self.sample(), {"y": rows}, {"y": rows[:1]})
        assert (tally.agree, tally.max_abs_error) == (1, 0)

    def test_only_classes_are_right_or_wrong(self) -> None:
        outputs = {"y": np.array([[0.1, 0.9]])}
        for by, labelled in (("top1", 1), ("kl", 1), ("cosine", 0), ("none", 0)):
            tally = Tally(agreement={"y": Agreement(by)})
            tally.add(self.sample(1), outputs, outputs)
            assert (tally.labelled, tally.correct) == (labelled, labelled)
