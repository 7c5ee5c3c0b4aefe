from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.budget import Budget, override
from edgekit.building.guard import SLOWER, Verdict, broken, choose, far_slower, hopeless, judge, lacks, nearest
from edgekit.building.measure import Latency, Measured, Tally

TIME = Latency(10.0, 12.0, 10.0, 10.0)
FLOAT = Measured("onnx-float32", "onnx", "onnxruntime", "float32", 2**20, 100, 1.0, 0.9, 0.0, TIME)
INT8 = replace(
    FLOAT, name="onnx-int8", precision="int8", size_bytes=2**18, agreement=0.97, accuracy=0.895, max_abs_error=0.3
)
TFLITE = replace(FLOAT, name="tflite-float32", format="tflite", engine="litert")
TFLITE8 = replace(INT8, name="tflite-int8", format="tflite", engine="litert")
MIXED = replace(INT8, name="onnx-mixed", precision="mixed", size_bytes=2**19, agreement=0.99)
ANY = Budget(None, None, None, None)
BOTH = ("int8", "float32")
ALL = ("int8", "mixed", "float32")
FOREIGN = "latency is this host's, of another architecture than the target: shown, not judged"


def p50(measured: Measured, value: float, low: float | None = None) -> Measured:
    """It takes so many milliseconds; ``low`` is the lower end of the median's interval."""
    return replace(measured, latency_ms=Latency(value, value * 1.2, value if low is None else low, value * 1.1))


class TestLacks:
    """``FLOAT`` was right on 90 of its 100 samples."""

    @given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 30), st.integers(0, 100))
    def test_so_many_better_answers_hold_the_budget_and_one_fewer_do_not(
        self, right: int, agree: int, drop: int, needed: int
    ) -> None:
        budget = Budget(max_accuracy_drop=drop / 100, min_agreement=needed / 100)

        def breaks(better: int) -> bool:
            now = replace(INT8, accuracy=(right + better) / 100, agreement=(agree + better) / 100)
            return bool(judge(now, FLOAT, budget, comparable_host=False))

        count = int(lacks(replace(INT8, accuracy=right / 100, agreement=agree / 100), FLOAT, budget))
        assert not breaks(count)
        assert count == 0 or breaks(count - 1)

    @pytest.mark.parametrize("change", [{"size_bytes": 2**20}, {"max_abs_error": math.inf}])
    def test_no_answers_mend_a_model_that_is_too_large_or_gives_nan(self, change: dict[str, Any]) -> None:
        assert lacks(replace(INT8, accuracy=0.5, **change), FLOAT, Budget(max_size_mib=0.5)) == math.inf


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
            ({"latency_ms": Latency(1, 5.1, 1, 1)}, Budget(max_p95_ms=5), ["p95 is 5.100 ms, allowed are 5"]),
            ({"latency_ms": Latency(1, 5.0, 1, 1)}, Budget(max_p95_ms=5), []),
            ({"memory_mib": 5.25}, Budget(max_memory_mib=5), ["needs 5.250 MiB of memory, allowed are 5"]),
            ({"memory_mib": 5.0}, Budget(max_memory_mib=5), []),
            ({"memory_mib": None}, Budget(max_memory_mib=5), []),
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


def test_layers_in_float_mend_what_is_wrong_and_make_nothing_smaller() -> None:
    bad = replace(INT8, memory_mib=9.0, agreement=0.1, accuracy=0.1, max_abs_error=math.inf)
    found = broken(bad, FLOAT, Budget(max_size_mib=0.1, max_p95_ms=1, max_memory_mib=8), comparable_host=True)
    assert {each.line: each.float_helps for each in found} == {
        "": True,
        "max_accuracy_drop": True,
        "min_agreement": True,
        "max_size_mib": False,
        "max_p95_ms": True,
        "max_memory_mib": False,
    }


class TestChoose:
    def chosen(
        self, *candidates: Measured, budget: Budget = Budget(), precisions: Any = (), same: bool = True
    ) -> tuple[str | None, Verdict]:
        there = tuple(each for each in ALL if each in {one.precision for one in candidates})
        index, verdict = choose(candidates, budget, precisions or there, same)
        assert verdict.ok == (index is not None)
        return None if index is None else candidates[index].name, verdict

    def test_of_those_about_as_fast_the_smallest(self) -> None:
        assert self.chosen(FLOAT, INT8) == ("onnx-int8", Verdict(True))
        assert self.chosen(FLOAT, INT8, precisions=("float32", "int8"))[0] == "onnx-int8"
        assert self.chosen(FLOAT, p50(INT8, 9), p50(MIXED, 8.2))[0] == "onnx-int8"
        assert self.chosen(FLOAT, p50(INT8, 9), p50(MIXED, 8))[0] == "onnx-mixed"

    def test_of_those_as_fast_and_as_small_the_one_that_agrees_best(self) -> None:
        twin = replace(MIXED, size_bytes=INT8.size_bytes)
        assert self.chosen(FLOAT, INT8, twin)[0] == "onnx-mixed"
        assert self.chosen(FLOAT, p50(twin, 10.4), p50(INT8, 10))[0] == "onnx-mixed"
        assert self.chosen(FLOAT, p50(twin, 10), replace(p50(twin, 9.9), name="quicker"))[0] == "quicker"

    def test_a_median_that_may_well_be_as_low_counts_as_fast(self) -> None:
        """The interval of a noisy median reaches down to the fastest."""
        assert self.chosen(FLOAT, p50(INT8, 10.5, low=8.7), p50(MIXED, 8))[0] == "onnx-int8"
        assert self.chosen(FLOAT, p50(INT8, 10.5, low=8.9), p50(MIXED, 8))[0] == "onnx-mixed"

    def test_the_fastest_is_looked_for_among_those_that_may_ship(self) -> None:
        quick = replace(p50(INT8, 1), agreement=0.5)
        name, verdict = self.chosen(FLOAT, quick, p50(MIXED, 9.9))
        assert name == "onnx-mixed"
        assert verdict.reasons == ("onnx-int8: agrees with float on 50.00%, needed are 90.00%",)

    def test_float_ships_where_int8_breaks_the_budget_and_the_verdict_says_why(self) -> None:
        bad = replace(INT8, accuracy=0.5)
        reason = "onnx-int8: accuracy drops by 0.4000 (0.9000 → 0.5000), allowed is 0.01"
        assert self.chosen(FLOAT, bad) == ("onnx-float32", Verdict(True, (reason,)))
        nearest = "nearest is onnx-int8, which would hold max_accuracy_drop=0.4"
        assert self.chosen(FLOAT, bad, precisions=("int8",)) == (None, Verdict(False, (reason,), (nearest,)))

    def test_int8_that_is_slower_is_passed_over_where_float_may_ship(self) -> None:
        slow = p50(INT8, 10 * SLOWER + 0.1)
        reason = "onnx-int8: 1.11 times as slow as float on this architecture"
        assert self.chosen(FLOAT, slow) == ("onnx-float32", Verdict(True, (reason,)))
        assert self.chosen(FLOAT, p50(INT8, 10 * SLOWER)) == ("onnx-int8", Verdict(True))

    def test_the_smaller_of_two_that_are_slower_ships_where_float_may_not(self) -> None:
        name, verdict = self.chosen(FLOAT, p50(INT8, 20), p50(MIXED, 30), precisions=("int8", "mixed"))
        assert name == "onnx-int8"
        assert verdict.reasons == ("onnx-mixed: 3.00 times as slow as float on this architecture",)
        assert verdict.notes == ("onnx-int8: 2.00 times as slow as float on this architecture",)

    def test_int8_that_was_asked_for_alone_ships_though_it_is_slower_and_a_note_says_so(self) -> None:
        note = "onnx-int8: 2.00 times as slow as float on this architecture"
        assert self.chosen(FLOAT, p50(INT8, 20), precisions=("int8",)) == ("onnx-int8", Verdict(True, (), (note,)))

    def test_int8_that_breaks_the_budget_is_not_told_to_be_slow_as_well(self) -> None:
        bad = p50(replace(INT8, agreement=0.1), 100)
        assert self.chosen(FLOAT, bad)[1].reasons == ("onnx-int8: agrees with float on 10.00%, needed are 90.00%",)

    def test_slower_is_meant_within_one_format(self) -> None:
        candidates = (p50(FLOAT, 10), p50(INT8, 5), p50(TFLITE, 1), p50(TFLITE8, 2))
        name, verdict = self.chosen(*candidates)
        assert name == "tflite-float32"
        assert verdict.reasons == ("tflite-int8: 2.00 times as slow as float on this architecture",)

    def test_the_fastest_where_the_time_counts(self) -> None:
        assert self.chosen(FLOAT, p50(INT8, 5), TFLITE, p50(TFLITE8, 4))[0] == "tflite-int8"

    def test_the_order_of_precisions_where_it_does_not(self) -> None:
        assert self.chosen(FLOAT, INT8, MIXED, same=False)[0] == "onnx-int8"
        assert self.chosen(FLOAT, INT8, MIXED, precisions=("mixed", "int8", "float32"), same=False)[0] == "onnx-mixed"
        assert self.chosen(FLOAT, INT8, precisions=("float32", "int8"), same=False)[0] == "onnx-float32"

    def test_the_order_of_the_target_among_candidates_of_one_precision(self) -> None:
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

    def test_whose_memory_it_was_is_noted(self) -> None:
        told, budget = "max_memory_mib was not judged: it was not measured", Budget(None, None, max_memory_mib=1)
        assert self.chosen(FLOAT, INT8, budget=budget)[1].notes == (told,)
        heavy = [replace(each, memory_mib=size) for each, size in ((FLOAT, 3.0), (INT8, 1.0))]
        hint = "nearest is onnx-float32, which would hold max_memory_mib=3.6"
        assert self.chosen(*heavy, budget=budget, precisions=("float32",))[1].notes[-1] == hint
        name, verdict = self.chosen(*heavy, budget=budget)
        reason = "onnx-float32: needs 3.000 MiB of memory, allowed are 1"
        assert (name, verdict) == ("onnx-int8", Verdict(True, (reason,), ("memory is this host's",)))

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


class TestNearest:
    def nearest(self, *candidates: Measured, budget: Budget = Budget(), precisions: Any = ALL) -> str:
        found = nearest([FLOAT, *candidates], budget, precisions, comparable_host=True)
        return found.told if found else ""

    def test_it_names_all_lines_that_would_have_to_give_way(self) -> None:
        bad = replace(INT8, accuracy=0.87777, agreement=0.8)
        want = "nearest is onnx-int8, which would hold max_accuracy_drop=0.0223, min_agreement=0.8"
        assert self.nearest(bad) == want

    def test_it_is_the_candidate_that_breaks_the_fewest_lines_and_of_these_the_least_by_share(self) -> None:
        budget = Budget(max_size_mib=0.2, max_p95_ms=100)
        two = replace(INT8, agreement=0.89)
        one = replace(INT8, name="large", size_bytes=2**24)
        assert self.nearest(two, one, budget=budget, precisions=("int8",)).startswith("nearest is large, which")
        less = replace(one, name="smaller", size_bytes=2**23)
        assert self.nearest(one, less, budget=budget, precisions=("int8",)).startswith("nearest is smaller, which")

    def test_it_may_ship(self) -> None:
        bad = replace(INT8, agreement=0.5)
        near = replace(bad, name="onnx-mixed", precision="mixed", agreement=0.89)
        assert self.nearest(bad, near, precisions=("int8",)).startswith("nearest is onnx-int8, ")

    def test_nothing_is_near_to_what_gives_nan_or_holds(self) -> None:
        nan = replace(INT8, max_abs_error=math.inf)
        assert self.nearest(nan, precisions=("int8",)) == ""
        assert self.nearest(replace(INT8, agreement=0.0)).endswith("would hold min_agreement=0")
        assert self.nearest(INT8) == ""


class TestHopeless:
    def hopeless(self, tally: Tally, budget: Budget = Budget(), baseline: Measured = FLOAT) -> bool:
        return hopeless(tally, baseline, budget)

    def test_not_before_more_samples_disagree_than_may(self) -> None:
        assert not self.hopeless(Tally(samples=10, agree=0))
        assert self.hopeless(Tally(samples=11, agree=0))
        assert not self.hopeless(Tally(samples=100, agree=90))
        assert not self.hopeless(Tally(samples=100, agree=0), Budget(min_agreement=None))

    def test_not_before_more_labels_are_missed_than_may(self) -> None:
        """Float misses 10 of 100 and one more may be."""
        assert not self.hopeless(Tally(samples=11, agree=11, labelled=11, correct=0))
        assert self.hopeless(Tally(samples=12, agree=12, labelled=12, correct=0))
        assert not self.hopeless(Tally(samples=12, agree=12, labelled=12, correct=0), Budget(max_accuracy_drop=None))

    def test_without_labels_only_agreement_counts(self) -> None:
        baseline = replace(FLOAT, accuracy=None)
        assert not self.hopeless(Tally(samples=12, agree=12), baseline=baseline)


shares = st.floats(0, 1)
sizes = st.floats(1e-4, 1e3)
latencies = st.tuples(sizes, sizes, sizes, sizes).map(sorted).map(lambda t: Latency(t[1], t[3], t[0], t[2]))


@given(st.data(), shares, shares, st.booleans())
def test_what_is_hopeless_breaks_the_budget_even_if_the_rest_goes_well(
    data: st.DataObject, drop: float, agreement: float, labels: bool
) -> None:
    total = data.draw(st.integers(1, 60))
    right = data.draw(st.integers(0, total))
    seen = data.draw(st.integers(0, total))
    agree, labelled = data.draw(st.integers(0, seen)), data.draw(st.integers(0, seen)) if labels else 0
    correct = data.draw(st.integers(0, labelled))
    baseline = replace(FLOAT, samples=total, accuracy=right / total if labels else None)
    budget = Budget(drop, agreement)
    if not hopeless(Tally(seen, agree, labelled, correct), baseline, budget):
        return
    rest = total - seen
    accuracy = (correct + rest) / (labelled + rest) if labels and labelled + rest else None
    best = replace(INT8, samples=total, agreement=(agree + rest) / total, accuracy=accuracy)
    assert judge(best, baseline, budget, comparable_host=False)


@st.composite
def all_candidates(draw: Any) -> list[Measured]:
    """Candidates as a plan makes them: a float one first, of each format once."""
    forms = draw(st.sampled_from([["onnx"], ["tflite"], ["onnx", "tflite"]]))
    precisions = draw(st.sampled_from([["float32"], ["float32", "int8"], ["float32", "int8", "float16"]]))
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
        latency_ms=latencies,
        memory_mib=st.none() | sizes,
    )


limits = st.none() | sizes
budgets = st.builds(Budget, st.none() | shares, st.none() | shares, limits, limits, limits)
orders = st.lists(st.sampled_from(["int8", "float32", "float16"]), min_size=1, max_size=3, unique=True)


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
    told = [other for other in candidates if any(r.startswith(f"{other.name}: ") for r in verdict.reasons)]
    others = [other for other in candidates if other.precision in order and other not in told]
    if same:
        limit = min(other.latency_ms.p50 for other in others) * SLOWER
        quick = [other for other in others if other.latency_ms.p50_low <= limit]
        assert chosen in quick
        assert all((chosen.size_bytes, -chosen.agreement) <= (each.size_bytes, -each.agreement) for each in quick)
    else:
        assert order.index(chosen.precision) == min(order.index(other.precision) for other in others)
    json.dumps([verdict.as_dict(), *(each.as_dict() for each in candidates)], allow_nan=False)


@given(all_candidates(), budgets, orders, st.lists(sizes, min_size=6, max_size=6))
def test_on_another_architecture_no_time_changes_the_choice(
    candidates: list[Measured], budget: Budget, order: list[str], times: list[float]
) -> None:
    others = [
        replace(each, latency_ms=Latency(time, time, time, time)) for each, time in zip(candidates, times, strict=False)
    ]
    assert choose(candidates, budget, order, False) == choose(others, budget, order, False)


def test_a_verdict_becomes_json() -> None:
    assert Verdict(False, ("a",), ("b",)).as_dict() == {"ok": False, "reasons": ["a"], "notes": ["b"]}


@given(all_candidates(), budgets, orders, st.booleans())
def test_the_budget_that_is_named_as_the_nearest_is_held(
    candidates: list[Measured], budget: Budget, order: list[str], same: bool
) -> None:
    near = nearest(candidates, budget, order, same)
    if not near:
        return
    name, _, lines = near.told.removeprefix("nearest is ").partition(", which would hold ")
    (found,) = [each for each in candidates if each.name == name]
    assert judge(found, candidates[0], budget, same)
    assert judge(found, candidates[0], override(budget, lines.split(", ")), same) == []


@pytest.mark.parametrize(("share", "chosen"), [(0.3, 1), (0.9, 1), (0.95, 2), (1.1, 2)])
def test_elsewhere_mixed_precision_goes_first_only_where_it_is_smaller_than_float(share: float, chosen: int) -> None:
    half = replace(FLOAT, name="onnx-float16", precision="float16", size_bytes=2**19)
    order = ("int8", "mixed", "float16", "float32")
    mixed = replace(MIXED, size_bytes=int(2**20 * share))
    assert choose([FLOAT, mixed, half], Budget(), order, comparable_host=False)[0] == chosen


@pytest.mark.parametrize(("low", "far"), [(31, False), (34, True)])
def test_far_slower_is_what_is_so_at_the_best_for_one_and_the_worst_for_the_other(low: float, far: bool) -> None:
    assert far_slower(Latency(40, 50, low, 45), Latency(10, 12, 9, 11)) == far
