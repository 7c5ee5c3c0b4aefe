from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from edgekit.federated.checks import Limits, broken, norm, reasons
from tests.lab.updates import BASE, SIZE, tables, update, weights_of

LIMITS = Limits(norm=10.0, examples=1000)
SOUND = weights_of(np.ones(SIZE))


def test_a_sound_update_has_nothing_wrong() -> None:
    assert reasons(update(SOUND), BASE, LIMITS) == []


@pytest.mark.parametrize(
    ("delta", "line"),
    [
        ({"head/bias": SOUND["head/bias"]}, "names: 'head/kernel' missing"),
        ({**SOUND, "x": SOUND["head/bias"]}, "names: 'x' not in the model"),
        ({**SOUND, **dict.fromkeys("abcd", SOUND["head/bias"])}, "names: 'a', 'b', 'c' and others not in the model"),
        ({**SOUND, "head/bias": np.ones(3, np.float32)}, "head/bias: shape [3], where the model has [2]"),
        ({**SOUND, "head/bias": np.ones((2, 1), np.float32)}, "head/bias: shape [2, 1], where the model has [2]"),
        ({**SOUND, "head/bias": np.ones(2)}, "head/bias: float64, where float32 must be"),
        ({**SOUND, "head/bias": np.array([1, np.nan], np.float32)}, "head/bias: numbers that are not finite"),
        ({**SOUND, "head/kernel": np.full((2, 2), -np.inf, np.float32)}, "head/kernel: numbers that are not finite"),
        (weights_of(np.full(SIZE, 5)), "norm: 12.2, where at most 10 can be"),
        (weights_of(np.full(SIZE, 3e38)), "norm: 7.35e+38, where at most 10 can be"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(delta: dict[str, np.ndarray], line: str) -> None:
    assert reasons(update(delta), BASE, LIMITS) == [line]


def test_what_no_device_sends_that_does_its_work() -> None:
    """One without a clip may have gone far, and one may have many samples."""
    far, clipped = update(weights_of(np.full(SIZE, 5))), Limits(10.0, 1000, clipped=True)
    assert broken(update({**SOUND, "head/bias": np.ones(3, np.float32)}), BASE, LIMITS)
    assert broken(update({"head/bias": SOUND["head/bias"]}), BASE, LIMITS)
    assert broken(far, BASE, clipped)
    assert not broken(far, BASE, LIMITS)
    assert not broken(replace(update(SOUND), examples=1 << 30), BASE, clipped)


@pytest.mark.parametrize("examples", [0, -1, 1001, 1 << 62])
def test_examples_that_nobody_has(examples: int) -> None:
    assert reasons(update(SOUND, examples=examples), BASE, LIMITS) == [f"examples: {examples}, where 1 to 1000 can be"]


def test_all_that_is_wrong_is_said() -> None:
    bad = {"head/bias": np.array([np.nan, 0], np.float32), "x": SOUND["head/bias"]}
    lines = reasons(update(bad, examples=0), BASE, LIMITS)
    assert [line.partition(":")[0] for line in lines] == ["names", "names", "head/bias", "examples"]


def test_a_name_of_many_lines_is_one() -> None:
    assert "\n" not in reasons(update({**SOUND, "a\nb" * 99: SOUND["head/bias"]}), BASE, LIMITS)[0]


@given(table=tables(1, 1, far=3e38))
def test_the_norm_is_that_of_all_numbers_and_never_overflows(table: np.ndarray) -> None:
    assert norm(weights_of(table[0])) == pytest.approx(math.sqrt(sum(float(x) ** 2 for x in table[0])))


def test_the_norm_of_many_numbers() -> None:
    assert norm({"a": np.full(100_000, 2, np.float32)}) == pytest.approx(2 * math.sqrt(100_000))
    assert norm({}) == 0
