"""Experience: how long candidates of builds took on devices, by class of device; from what the devices counted.

Of several devices the median of their medians counts, so that no busy or throttled one decides for the others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import median

from edgekit.policy import bounds
from edgekit_runtime.histogram import RELATIVE_ERROR, percentile, summed

LEAST_CALLS = 200
"""Of one release on one device: from then on its median is known to about a tenth of the spread of its calls."""
SIZES_ALIKE = 1.25
"""Models whose times on the host differ by less are taken for alike: a host's times vary by as much."""

Kind = tuple[str, str, str, str]
"""Class of devices, format, precision, engine."""


@dataclass(frozen=True)
class Run:
    """What was counted of a release on one device, and with what it ran; as in ``serving.Served``."""

    device: str
    target: str
    release: str
    format: str
    precision: str
    engine: str
    threads: int
    buckets: dict[int, int]
    source: str = ""
    sequence: int = 0
    host_p50_ms: float | None = None
    base_p50_ms: float | None = None
    throttled: float = 0.0
    live: bool = False

    @property
    def kind(self) -> Kind:
        return self.target, self.format, self.precision, self.engine


@dataclass(frozen=True)
class Timed:
    """Milliseconds a call of one kind of candidate on a class of devices: the median of devices' medians lies between
    ``low`` and ``high``, at 95 % confidence from six devices on, else with all of them within.

    ``threads``: what most devices run with, which are ``agree``, for their proofs found that fastest.
    ``source``: the model that all were built from. ``host_p50_ms``: what builds measured of it on the host,
    ``base_p50_ms`` of that model in float. ``throttled``: the share of the time.
    """

    target: str
    format: str
    precision: str
    engine: str
    threads: int
    agree: int
    devices: tuple[str, ...]
    calls: int
    p50: float
    p95: float
    low: float
    high: float
    source: str = ""
    host_p50_ms: float | None = None
    base_p50_ms: float | None = None
    throttled: float = 0.0

    @property
    def kind(self) -> Kind:
        return self.target, self.format, self.precision, self.engine

    @property
    def name(self) -> str:
        """As a candidate of a build has it."""
        return f"{self.format}-{self.precision}"

    @property
    def told(self) -> str:
        """Part of a line."""
        hot = f", throttled for {self.throttled:.0%} of it" if self.throttled >= 0.01 else ""
        who = self.devices[0] if len(self.devices) == 1 else f"{len(self.devices)} devices"
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        host = f", {self.host_p50_ms:.3g} ms on the build's host" if self.host_p50_ms else ""
        between = f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.p50:.3g} ms ({between}) of {self.calls} calls on {who}, {threads}{hot}{host}"


def timed(runs: Iterable[Run]) -> list[Timed]:
    """By class, format, precision and engine, of the model that was built last so; without what was called seldom."""
    enough = sorted((run for run in runs if sum(run.buckets.values()) >= LEAST_CALLS), key=lambda run: run.kind)
    groups = [list(group) for _, group in groupby(enough, key=lambda run: run.kind)]
    last = [max(group, key=lambda run: run.sequence).source for group in groups]
    return [_timed([run for run in group if run.source == of]) for group, of in zip(groups, last, strict=True)]


def _timed(runs: Sequence[Run]) -> Timed:
    """Of runs of one kind and model."""
    first, devices = runs[0], sorted({run.device for run in runs})
    of_device = {name: summed(run.buckets for run in runs if run.device == name) for name in devices}
    medians = sorted(_ms(buckets, 0.5) for buckets in of_device.values())
    every = summed(of_device.values())
    low, high = _between(medians, of_device[devices[0]])
    threads, agree = Counter({run.device: run.threads for run in runs}.values()).most_common(1)[0]
    return Timed(
        first.target,
        first.format,
        first.precision,
        first.engine,
        threads,
        agree,
        tuple(devices),
        sum(every.values()),
        median(medians),
        median(_ms(buckets, 0.95) for buckets in of_device.values()),
        low,
        high,
        first.source,
        _median(run.host_p50_ms for run in runs),
        _median(run.base_p50_ms for run in runs),
        sum(run.throttled for run in runs) / len(runs),
    )


def _between(medians: Sequence[float], only: dict[int, int]) -> tuple[float, float]:
    """Bounds of the median of devices: its order statistics; of a single device, those of its calls."""
    number = len(medians)
    if number == 1:
        calls = sum(only.values())
        low, high = (_ms(only, share) for share in bounds(calls / 2, calls))
    else:
        half = 1.96 * math.sqrt(number) / 2 if number > 5 else number
        low = medians[max(0, math.floor(number / 2 - half))]
        high = medians[min(number - 1, math.ceil(number / 2 + half) - 1)]
    return low * (1 - RELATIVE_ERROR), high * (1 + RELATIVE_ERROR)


def _median(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each]
    return median(known) if known else None


def _ms(buckets: dict[int, int], share: float) -> float:
    return percentile(buckets, share) / 1e6


@dataclass(frozen=True)
class Source:
    """A model that times are wanted of; ``base_p50_ms``: what it takes in float on the host, 0 for not timed."""

    digest: str
    base_p50_ms: float = 0.0


def expected(known: Sequence[Timed], name: str, engine: str, model: Source) -> Timed | None:
    """What devices of one class are expected to take for a candidate of a build; None for what they never ran.

    By the same engine, else by the fastest. Times of another model are scaled as the float models' are on the host.
    """
    found = [each for each in known if each.name == name]
    by_engine = [each for each in found if each.engine == engine]
    best = min(by_engine or found, key=lambda each: each.p50, default=None)
    return best and _scaled(best, times(best, model))


def times(each: Timed, model: Source) -> float:
    """How many times longer a model takes than the one that was measured; 1 where they are alike or unknown."""
    if (each.source and each.source == model.digest) or not each.base_p50_ms or not model.base_p50_ms:
        return 1.0
    scale = model.base_p50_ms / each.base_p50_ms
    return 1.0 if 1 / SIZES_ALIKE <= scale <= SIZES_ALIKE else scale


def _scaled(each: Timed, by: float) -> Timed:
    return replace(each, p50=each.p50 * by, p95=each.p95 * by, low=each.low * by, high=each.high * by)


def as_of(one: Timed, other: Timed) -> Timed:
    """What one kind would take for the model that another one was measured with."""
    return _scaled(one, times(one, Source(other.source, other.base_p50_ms or 0.0)))


def slower(one: Timed, other: Timed, alike: float) -> bool:
    """Whether a candidate is slower than another one by more than makes no difference, beyond chance."""
    fair = as_of(other, one)
    return one.p50 > fair.p50 * alike and one.low > fair.high
