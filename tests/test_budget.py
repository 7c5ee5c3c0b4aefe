from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.budget import Budget, override
from edgekit.config import decode
from edgekit.errors import ConfigError

KEYS = ["max_accuracy_drop", "min_agreement", "max_size_mib", "max_p95_ms", "max_memory_mib"]


def line(*lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        override(Budget(), lines)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_what_holds_when_nothing_is_said() -> None:
    assert Budget().as_dict() == {"max_accuracy_drop": 0.01, "min_agreement": 0.9}


def test_lines_go_over_what_stands_and_over_one_another() -> None:
    budget = override(Budget(max_size_mib=3), ["max_accuracy_drop=0.02", "max_p95_ms=40", "max_p95_ms=30"])
    assert budget == Budget(0.02, 0.9, 3, 30)


@pytest.mark.parametrize("key", KEYS)
def test_none_lifts_a_line(key: str) -> None:
    assert key not in override(Budget(0.1, 0.1, 1, 1, 1), [f"{key}=none"]).as_dict()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("max_size_mib", "--budget max_size_mib: not KEY=VALUE — write e.g. --budget max_accuracy_drop=0.01"),
        ("", "--budget : not KEY=VALUE"),
        ("max_size_mib=", "--budget max_size_mib=: '' is no number — write a number, or none"),
        ("max_size_mib=big", "--budget max_size_mib=big: 'big' is no number"),
        ("max_size_mib=1,5", "--budget max_size_mib=1,5: '1,5' is no number"),
        ("max_accuracy_dorp=1", "--budget: max_accuracy_dorp: unknown key — did you mean 'max_accuracy_drop'?"),
        ("zzz=1", "--budget: zzz: unknown key — known: max_accuracy_drop, min_agreement, max_size_mib, max_p95_ms, "),
        ("=3", '--budget: "": unknown key'),
        ("min_agreement=90", "--budget: min_agreement: expected float <= 1.0 — found 90.0"),
        ("max_accuracy_drop=-0.1", "--budget: max_accuracy_drop: expected float >= 0.0 — found -0.1"),
        ("max_size_mib=0", "--budget: max_size_mib: expected float > 0.0 — found 0.0"),
    ],
)
def test_a_mistake_in_a_line_is_named(given: str, told: str) -> None:
    assert line(given).startswith(told)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e400"])
def test_no_line_is_without_end_or_below_nothing(key: str, value: str) -> None:
    assert f"--budget: {key}: expected float" in line(f"{key}={value}")
    with pytest.raises(ConfigError, match=rf"edgekit.toml: {key}: expected float .* — found"):
        decode({key: float(value)}, Budget, Path("edgekit.toml"))


@given(st.sampled_from(KEYS), st.floats(min_value=1e-6, max_value=1))
def test_a_line_reads_back_as_the_number_that_was_written(key: str, value: float) -> None:
    assert override(Budget(), [f"{key}={value!r}"]).as_dict()[key] == value


@given(st.text(max_size=20))
def test_whatever_is_written_it_is_a_budget_or_one_line(text: str) -> None:
    try:
        override(Budget(), [text])
    except ConfigError as error:
        assert error.message.startswith("--budget")
