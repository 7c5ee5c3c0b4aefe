"""The soak: that its mixture is what it says, and that a leak is told from noise."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serve import soak
from benchmarks.serve.soak import Look, Soak


def soaked(mib_an_hour: float, files: int = 0, minutes: int = 60) -> Soak:
    """A look a minute, with a tenth of a MiB of noise, after a start that takes 5 MiB."""
    noise = np.random.default_rng(0).normal(0, 0.1, minutes)
    hours = [number / 60 for number in range(minutes)]
    mib = [
        (10.0, 30 + min(5.0, 100 * hour) + mib_an_hour * hour + some) for hour, some in zip(hours, noise, strict=True)
    ]
    counts = [8 + files * number // minutes for number in range(minutes)]
    return Soak([Look(h, (1, 2), m, (9, n)) for h, m, n in zip(hours, mib, counts, strict=True)])


@pytest.mark.parametrize(
    ("mib_an_hour", "files", "kept"), [(0, 0, [1, 1]), (2, 0, [0, 1]), (0, 9, [1, 0]), (-3, -2, [1, 1])]
)
def test_what_grows_is_seen(mib_an_hour: float, files: int, kept: list[int]) -> None:
    memory, descriptors, processes = soak.promises(soaked(mib_an_hour, files))
    assert [memory.kept, descriptors.kept] == kept
    assert processes.kept


def test_a_slope_has_its_error() -> None:
    found = soak._trend(soaked(2), 1)
    assert abs(found.slope - 2) < found.within < 1


def test_a_worker_that_came_anew_is_seen() -> None:
    one = soaked(0)
    one.looks[30] = Look(0.5, (1, 3), (10.0, 35.0), (9, 8))
    assert not soak.promises(one)[2].kept


def test_minutes_are_too_few_to_tell() -> None:
    assert not soak.promises(soaked(0, minutes=6))[0].kept
