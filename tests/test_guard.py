"""The guard's decisions: pure, so that tables and properties say all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.budget import Budget
from edgekit.guard import Latency, Measured, choose, judge

FLOAT = Measured("onnx-float32", "onnx", "onnxruntime", "float32", 1 << 20, 100, 1.0, 0.9, 0.0, Latency(1.0, 1.2))
INT8 = Measured("onnx-int8", "onnx", "onnxruntime", "int8", 1 << 18, 100, 0.98, 0.9, 0.2, Latency(0.5, 0.6))
BOTH = ("int8", "float32")


def int8(**changes: object) -> Measured:
    return Measured(**{**{name: getattr(INT8, name) for name in INT8.__dataclass_fields__}, **changes})  # type: ignore[arg-type]


def test_int8_that_holds_the_budget_ships() -> None:
    index, verdict = choose([FLOAT, INT8], Budget(), BOTH, True)
    assert (index, verdict.ok, verdict.reasons) == (1, True, ())


@pytest.mark.parametrize(
    ("changes", "budget", "told"),
    [
        ({"accuracy": 0.88}, Budget(), "accuracy drops by 0.0200"),
        ({"agreement": 0.5}, Budget(), "agrees with float on 50.00%"),
        ({}, Budget(max_size_mib=0.1), "takes 0.250 MiB"),
        ({}, Budget(max_p95_ms=0.1), "p95 is 0.600 ms"),
    ],
)
def test_a_broken_line_is_told_with_its_figures(changes: dict[str, object], budget: Budget, told: str) -> None:
    assert any(told in reason for reason in judge(int8(**changes), FLOAT, budget, True))


def test_int8_that_got_worse_leaves_float_to_ship_and_says_why() -> None:
    index, verdict = choose([FLOAT, int8(accuracy=0.5)], Budget(), BOTH, True)
    assert index == 0
    assert verdict.ok
    assert verdict.reasons[0].startswith("onnx-int8: accuracy drops by 0.4000")


def test_int8_alone_that_got_worse_is_refused() -> None:
    index, verdict = choose([FLOAT, int8(accuracy=0.5)], Budget(), ("int8",), True)
    assert index is None
    assert not verdict.ok
    assert verdict.reasons


def test_int8_slower_than_float_is_passed_over_where_that_was_measured_on_the_target_s_architecture() -> None:
    slow = int8(latency_ms=Latency(1.5, 2.0))
    assert choose([FLOAT, slow], Budget(), BOTH, True)[0] == 0
    assert choose([FLOAT, slow], Budget(), BOTH, False)[0] == 1


def test_a_foreign_host_does_not_judge_latency_and_says_so() -> None:
    index, verdict = choose([FLOAT, INT8], Budget(max_p95_ms=0.001), BOTH, False)
    assert index == 1
    assert any("max_p95_ms was not judged" in note for note in verdict.notes)


def test_the_faster_of_two_formats_wins_only_where_latency_counts() -> None:
    other = int8(name="tflite-int8", format="tflite", latency_ms=Latency(0.3, 0.4))
    assert choose([FLOAT, INT8, other], Budget(), BOTH, True)[0] == 2
    assert choose([FLOAT, INT8, other], Budget(), BOTH, False)[0] == 1


measured = st.builds(
    int8,
    precision=st.sampled_from(BOTH),
    accuracy=st.none() | st.floats(0, 1),
    agreement=st.floats(0, 1),
    size_bytes=st.integers(1, 1 << 24),
    latency_ms=st.builds(Latency, st.floats(0.001, 100), st.floats(0.001, 100)),
)
budgets = st.builds(
    Budget,
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0.001, 16),
    st.none() | st.floats(0.001, 100),
)


@given(st.lists(measured, max_size=5), budgets, st.sampled_from([BOTH, ("int8",), ("float32",)]), st.booleans())
def test_what_ships_holds_the_budget_and_a_no_has_its_reasons(
    candidates: list[Measured], budget: Budget, precisions: tuple[str, ...], comparable: bool
) -> None:
    everyone = [FLOAT, *candidates]
    index, verdict = choose(everyone, budget, precisions, comparable)
    assert verdict.ok == (index is not None)
    if index is not None:
        assert judge(everyone[index], FLOAT, budget, comparable) == []
        assert everyone[index].precision in precisions
    else:
        assert verdict.reasons
