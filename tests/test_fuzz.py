"""The fuzzer's targets without the fuzzer, which ``make fuzz`` has: they take what is whole, and what is not quite."""

from __future__ import annotations

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.targets import TARGETS, Target
from tests.runtime.server.mutations import mutated


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_seeds_and_what_is_near_them(target: Target) -> None:
    for seed in target.seeds():
        for number in range(40):
            target.take(mutated(seed, number) if number else seed)


def test_all_are_fuzzed() -> None:
    assert tuple(TARGETS) == command.NAMES
