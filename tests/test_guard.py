from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgekit import guard
from edgekit.budget import Budget
from edgekit.dataset import Sample
from edgekit.errors import DataError, ModelError
from edgekit.guard import SLOWER, Latency, Measured, Verdict, choose, judge, measure
from edgekit.model import open_model
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from tests.lab.models import dense, onnx_model

FLOAT = Measured("onnx-float32", "onnx", "onnxruntime", "float32", 2**20, 100, 1.0, 0.9, 0.0, Latency(10.0, 12.0))
INT8 = replace(
    FLOAT, name="onnx-int8", precision="int8", size_bytes=2**18, agreement=0.97, accuracy=0.895, max_abs_error=0.3
)
TFLITE = replace(FLOAT, name="tflite-float32", format="tflite", engine="litert")
TFLITE8 = replace(INT8, name="tflite-int8", format="tflite", engine="litert")
ANY = Budget(None, None, None, None)
BOTH = ("int8", "float32")
FOREIGN = "latency is this host's, of another architecture than the target: shown, not judged"


def p50(measured: Measured, value: float) -> Measured:
    return replace(measured, latency_ms=Latency(value, value * 1.2))


class TestJudge:
    @pytest.mark.parametrize(
        ("change", "budget", "told"),
        [
            ({}, Budget(), []),
            ({"accuracy": 0.885}, Budget(), ["accuracy drops by 0.0150 (0.9000 → 0.8850), allowed is 0.01"]),
            ({"accuracy": 0.89}, Budget(), []),
            ({"accuracy": 0.95}, Budget(max_accuracy_drop=0), []),
            ({"accuracy": 0.0}, Budget(max_accuracy_drop=None), []),
            ({"accuracy": None}, Budget(max_accuracy_drop=0), []),
            ({"agreement": 0.89}, Budget(), ["agrees with float on 89.00%, needed are 90.00%"]),
            ({"agreement": 0.9}, Budget(), []),
            ({"agreement": 0.0}, Budget(min_agreement=None), []),
            ({"size_bytes": 2**20 + 1}, Budget(max_size_mib=1), ["takes 1.000 MiB, allowed are 1"]),
            ({"size_bytes": 2**20}, Budget(max_size_mib=1), []),
            ({"latency_ms": Latency(1, 5.1)}, Budget(max_p95_ms=5), ["p95 is 5.100 ms, allowed are 5"]),
            ({"latency_ms": Latency(1, 5.0)}, Budget(max_p95_ms=5), []),
            ({"max_abs_error": math.inf}, ANY, ["gives NaN, or outputs of another shape than float"]),
            (
                {"accuracy": 0.0, "agreement": 0.0},
                Budget(),
                [
                    "accuracy drops by 0.9000 (0.9000 → 0.0000), allowed is 0.01",
                    "agrees with float on 0.00%, needed are 90.00%",
                ],
            ),
        ],
    )
    def test_each_broken_line_is_told_with_its_numbers(
        self, change: dict[str, Any], budget: Budget, told: list[str]
    ) -> None:
        assert judge(replace(INT8, **change), FLOAT, budget, comparable_host=True) == told

    def test_the_time_on_another_architecture_breaks_nothing(self) -> None:
        assert judge(p50(INT8, 1000), FLOAT, Budget(max_p95_ms=1), comparable_host=False) == []


class TestChoose:
    def chosen(
        self, *candidates: Measured, budget: Budget = Budget(), precisions: Any = BOTH, same: bool = True
    ) -> tuple[str | None, Verdict]:
        index, verdict = choose(candidates, budget, precisions, same)
        assert verdict.ok == (index is not None)
        return None if index is None else candidates[index].name, verdict

    def test_the_first_precision_that_holds(self) -> None:
        assert self.chosen(FLOAT, INT8) == ("onnx-int8", Verdict(True))
        assert self.chosen(FLOAT, INT8, precisions=("float32", "int8"))[0] == "onnx-float32"

    def test_float_ships_where_int8_breaks_the_budget_and_the_verdict_says_why(self) -> None:
        bad = replace(INT8, accuracy=0.5)
        reason = "onnx-int8: accuracy drops by 0.4000 (0.9000 → 0.5000), allowed is 0.01"
        assert self.chosen(FLOAT, bad) == ("onnx-float32", Verdict(True, (reason,)))
        assert self.chosen(FLOAT, bad, precisions=("int8",)) == (None, Verdict(False, (reason,)))

    def test_int8_that_is_slower_is_passed_over_where_float_may_ship(self) -> None:
        slow = p50(INT8, 10 * SLOWER + 0.1)
        reason = "onnx-int8: 1.11 times as slow as float on this architecture"
        assert self.chosen(FLOAT, slow) == ("onnx-float32", Verdict(True, (reason,)))
        assert self.chosen(FLOAT, p50(INT8, 10 * SLOWER))[0] == "onnx-int8"

    def test_int8_that_was_asked_for_alone_ships_though_it_is_slower_and_a_note_says_so(self) -> None:
        note = "onnx-int8: 2.00 times as slow as float on this architecture"
        assert self.chosen(FLOAT, p50(INT8, 20), precisions=("int8",)) == ("onnx-int8", Verdict(True, (), (note,)))

    def test_int8_that_breaks_the_budget_is_not_told_to_be_slow_as_well(self) -> None:
        bad = p50(replace(INT8, agreement=0.1), 100)
        assert self.chosen(FLOAT, bad)[1].reasons == ("onnx-int8: agrees with float on 10.00%, needed are 90.00%",)

    def test_slower_is_meant_within_one_format(self) -> None:
        candidates = (p50(FLOAT, 10), p50(INT8, 5), p50(TFLITE, 1), p50(TFLITE8, 2))
        name, verdict = self.chosen(*candidates)
        assert name == "onnx-int8"
        assert verdict.reasons == ("tflite-int8: 2.00 times as slow as float on this architecture",)

    def test_the_fastest_of_a_precision_where_the_time_counts(self) -> None:
        assert self.chosen(FLOAT, p50(INT8, 5), TFLITE, p50(TFLITE8, 4))[0] == "tflite-int8"

    def test_the_order_of_the_target_where_it_does_not(self) -> None:
        name, verdict = self.chosen(FLOAT, p50(INT8, 500), TFLITE, p50(TFLITE8, 4), same=False)
        assert (name, verdict) == ("onnx-int8", Verdict(True, (), (FOREIGN,)))

    def test_what_is_not_judged_is_noted(self) -> None:
        blind = [replace(each, accuracy=None) for each in (FLOAT, INT8)]
        _, verdict = self.chosen(*blind, budget=Budget(max_p95_ms=1), same=False)
        assert verdict.notes == (
            FOREIGN,
            "max_p95_ms was not judged",
            "max_accuracy_drop was not judged: no labels, or no class scores in the first output",
        )
        assert self.chosen(*blind, budget=ANY)[1].notes == ()

    def test_a_precision_that_was_asked_for_and_cannot_be_had_is_a_reason(self) -> None:
        quantized = replace(INT8, agreement=1.0)
        reason = "float32: the model is quantized already"
        assert self.chosen(quantized, precisions=("float32",)) == (None, Verdict(False, (reason,)))
        assert self.chosen(quantized, precisions=BOTH) == ("onnx-int8", Verdict(True, (reason,)))
        assert self.chosen(FLOAT, precisions=("int8",)) == (
            None,
            Verdict(False, ("int8: there is no such candidate",)),
        )

    def test_a_quantized_model_is_its_own_measure(self) -> None:
        assert self.chosen(replace(INT8, agreement=1.0), precisions=("int8",))[1] == Verdict(True)

    def test_float_itself_may_break_the_budget(self) -> None:
        name, verdict = self.chosen(FLOAT, INT8, budget=Budget(max_size_mib=0.1))
        assert name is None
        assert verdict.reasons == (
            "onnx-float32: takes 1.000 MiB, allowed are 0.1",
            "onnx-int8: takes 0.250 MiB, allowed are 0.1",
        )


shares = st.floats(0, 1)
sizes = st.floats(1e-4, 1e3)


@st.composite
def all_candidates(draw: Any) -> list[Measured]:
    """Candidates as a plan makes them: a float one first, of each format once."""
    forms = draw(st.sampled_from([["onnx"], ["tflite"], ["onnx", "tflite"]]))
    precisions = draw(st.sampled_from([["float32"], ["float32", "int8"], ["float32", "int8", "int4"]]))
    return [draw(measured(form, precision)) for form in forms for precision in precisions]


def measured(form: str, precision: str) -> st.SearchStrategy[Measured]:
    return st.builds(
        Measured,
        st.just(f"{form}-{precision}"),
        st.just(form),
        st.just("engine"),
        st.just(precision),
        size_bytes=st.integers(1, 10**7),
        samples=st.just(10),
        agreement=shares,
        accuracy=st.none() | shares,
        max_abs_error=st.floats(0, 10) | st.just(math.inf),
        latency_ms=st.builds(Latency, sizes, sizes),
        chosen=st.just(False),
    )


budgets = st.builds(Budget, st.none() | shares, st.none() | shares, st.none() | sizes, st.none() | sizes)
orders = st.lists(st.sampled_from(["int8", "float32", "int4"]), min_size=1, max_size=3, unique=True)


@given(all_candidates(), budgets, orders, st.booleans())
def test_whatever_was_measured_the_choice_keeps_its_promises(
    candidates: list[Measured], budget: Budget, order: list[str], same: bool
) -> None:
    index, verdict = choose(candidates, budget, order, same)
    broken = {each.name: judge(each, candidates[0], budget, same) for each in candidates}
    for name, lines in broken.items():
        assert {f"{name}: {line}" for line in lines} <= set(verdict.reasons)
    if index is None:
        assert verdict.reasons
        assert not verdict.ok
        slow = {each.name for each in candidates if any(f"{each.name}: " in reason for reason in verdict.reasons)}
        assert all(each.name in slow for each in candidates if each.precision in order)
        return
    chosen = candidates[index]
    assert verdict.ok
    assert chosen.precision in order
    assert not broken[chosen.name]
    assert not any(reason.startswith(f"{chosen.name}: ") for reason in verdict.reasons)
    for other in candidates:
        if other.precision in order[: order.index(chosen.precision)]:
            assert any(reason.startswith(f"{other.name}: ") for reason in verdict.reasons)
    json.dumps([verdict.as_dict(), *(each.as_dict() for each in candidates)], allow_nan=False)


@given(all_candidates(), budgets, orders, st.lists(sizes, min_size=6, max_size=6))
def test_on_another_architecture_no_time_changes_the_choice(
    candidates: list[Measured], budget: Budget, order: list[str], times: list[float]
) -> None:
    others = [replace(each, latency_ms=Latency(time, time)) for each, time in zip(candidates, times, strict=False)]
    assert choose(candidates, budget, order, False) == choose(others, budget, order, False)


class TestMeasure:
    @pytest.fixture
    def session(self, tmp_path: Path) -> Iterator[Session]:
        with self.opened(dense(tmp_path / "m.onnx")) as session:
            yield session

    def opened(self, path: Path) -> Session:
        model = open_model(path)
        return Session(path.read_bytes(), Interface(model.inputs, model.outputs), [EngineNeed("onnxruntime")])

    def samples(self, session: Session, count: int = 30, labels: bool = True) -> list[Sample]:
        """Samples labelled by what the model itself says, every third one wrongly."""
        found = []
        for index in range(count):
            x = np.random.default_rng(index).normal(size=(1, 8)).astype(np.float32)
            answer = int(session.predict({"x": x})["scores"].argmax())
            found.append(Sample({"x": x}, (answer + (index % 3 == 0)) % 4 if labels else None))
        return found

    def test_a_model_agrees_with_itself_and_is_right_where_it_is(self, session: Session) -> None:
        first, second = measure([session, session], self.samples(session))
        assert (first.samples, first.agree, second.agree, second.max_abs_error) == (30, 30, 30, 0.0)
        assert first.accuracy == second.accuracy == pytest.approx(2 / 3)
        assert 0 < second.latency_ms.p50 <= second.latency_ms.p95

    def test_without_labels_there_is_no_accuracy(self, session: Session) -> None:
        (tally,) = measure([session], self.samples(session, labels=False))
        assert tally.accuracy is None

    def test_only_samples_with_labels_count(self, session: Session) -> None:
        given = self.samples(session, 3)
        (tally,) = measure([session], [replace(given[0], label=None), *given[1:]])
        assert (tally.samples, tally.labelled, tally.accuracy) == (3, 2, 1.0)

    def test_outputs_that_are_no_class_scores_have_no_accuracy(self, tmp_path: Path) -> None:
        path = onnx_model(
            tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 2, 4]}, {"y": [1, 2, 4]}
        )
        with self.opened(path) as session:
            (tally,) = measure([session], [Sample({"x": np.ones((1, 2, 4), np.float32)}, 1)])
        assert tally.accuracy is None

    @pytest.mark.parametrize("label", [4, 100, -1])
    def test_a_label_that_is_no_class_of_the_model_is_named(self, session: Session, label: int) -> None:
        given = self.samples(session, 3)
        with pytest.raises(DataError, match=rf"sample 2: label {label}, the model has the classes 0 to 3 — renumber"):
            measure([session], [*given[:2], replace(given[2], label=label)])

    def test_a_float_model_that_gives_nan_is_named_with_the_sample(self, tmp_path: Path) -> None:
        path = onnx_model(tmp_path / "m.onnx", [helper.make_node("Sqrt", ["x"], ["root"])], {"x": [1]}, {"root": [1]})
        good, bad = (Sample({"x": np.array([value], np.float32)}) for value in (4, -4))
        with self.opened(path) as session, pytest.raises(ModelError, match="sample 1: the float model gives NaN"):
            measure([session], [good, bad])

    def test_a_candidate_that_gives_nan_is_infinitely_far(self, tmp_path: Path, session: Session) -> None:
        nodes = [
            helper.make_node("Sqrt", ["x"], ["root"]),
            helper.make_node("Slice", ["root", "0", "4", "1"], ["scores"]),
        ]
        places = {name: np.array([int(name)], np.int64) for name in ("0", "1", "4")}
        path = onnx_model(tmp_path / "bad.onnx", nodes, {"x": ["N", 8]}, {"scores": ["N", 4]}, places)
        with self.opened(path) as other:
            tally = measure([session, other], self.samples(session))[1]
        assert tally.max_abs_error == math.inf
        assert replace(INT8, max_abs_error=tally.max_abs_error).as_dict()["max_abs_error"] is None

    def test_the_first_calls_do_not_count_for_the_latency(self) -> None:
        tally = guard.Tally(times_ns=[10**9] * guard.WARM_UP + [10**6] * 20)
        assert tally.latency_ms == Latency(1.0, 1.0)
        assert guard.Tally(times_ns=[2 * 10**6]).latency_ms == Latency(2.0, 2.0)

    def test_nothing_is_kept_of_a_sample(self, session: Session) -> None:
        taken = iter(self.samples(session, 5))
        measure([session], taken)
        assert next(taken, None) is None


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
        "latency_ms": {"p50": 10.0, "p95": 12.0},
        "chosen": True,
    }
    assert Verdict(False, ("a",), ("b",)).as_dict() == {"ok": False, "reasons": ["a"], "notes": ["b"]}
