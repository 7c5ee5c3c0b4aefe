"""A fleet that has been at work: each device's windows of a minute, for about an hour a day, up to now."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgekit_runtime.histogram import GAMMA
from edgekit_runtime.windows import Window

DAYS = 30
CALLS = 600
RELEASES = ["sha256:" + letter * 64 for letter in "ab"]
"""The first one until the middle of the time, then the second one."""
SHAPES = 64
"""Different windows, which come again and again: what makes them is no part of what is measured."""


def windows(device: int, number: int, now_s: float) -> Iterator[Window]:
    """As many of one device, over DAYS days; oldest first."""
    day = max(1, round(number / DAYS))
    hour_s = device * 7919 % 82800
    first_s = (now_s // 86400 - DAYS) * 86400
    for seq in range(number):
        start_s = min(first_s + seq // day * 86400 + hour_s + seq % day * 60, now_s - 60)
        release = RELEASES[seq * len(RELEASES) // number]
        yield _moved(_SHAPES[(device + seq) % SHAPES], release, f"{device:032x}", seq, start_s)


def _moved(shape: Window, release: str, session: str, seq: int, start_s: float) -> Window:
    told = (shape.buckets, shape.errors, shape.stages, shape.counters, shape.conditions, shape.drift)
    return Window("digits", release, session, seq, start_s, start_s + 60, *told)


def _shape(random: np.random.Generator) -> Window:
    means = {"queue": 2e5, "preprocess": 4e5, "infer": 4e6, "postprocess": 1e5}
    clipped = int(random.integers(50))
    counters = {"inputs_checked": CALLS * 784, "inputs_clipped": clipped, "outputs_checked": CALLS * 10}
    temperature = round(55 + random.random() * 10, 1)
    conditions = {"temperature_c": temperature, "frequency_mhz": 1500.0, "frequency_max_mhz": 1500.0}
    flags = dict.fromkeys(("throttled", "under_voltage", "frequency_capped", "soft_temperature_limit"), 0.0)
    drift = {name: _bins(random, 16 if "input" in name else 10) for name in ("input:x", "confidence:y", "entropy:y")}
    stages = {stage: _buckets(random, mean) for stage, mean in means.items()}
    calls = _buckets(random, sum(means.values()))
    return Window("", "", "", 0, 0, 0, calls, {"busy": 1}, stages, counters, {**conditions, **flags}, drift)


def _buckets(random: np.random.Generator, mean_ns: float) -> dict[int, int]:
    times = mean_ns * random.lognormal(0, 0.1, CALLS)
    index, number = np.unique(np.ceil(np.log(times) / math.log(GAMMA)), return_counts=True)
    return {int(i): int(n) for i, n in zip(index, number, strict=True)}


def _bins(random: np.random.Generator, number: int) -> tuple[int, ...]:
    return tuple(int(each) for each in random.multinomial(CALLS, [1 / number] * number))


_SHAPES = [_shape(np.random.default_rng(seed)) for seed in range(SHAPES)]
