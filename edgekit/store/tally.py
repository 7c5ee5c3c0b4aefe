"""Tally: what was counted, of one window or of many; packed small, for a store holds millions.

MessagePack, because a histogram of 37 buckets takes 152 bytes and 1.3 µs to read, where a list of pairs in JSON takes
315 bytes and 7.4 µs (docs/adr/0023-roll-ups.md).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct, field, msgpack

from edgekit_runtime.windows import Window

MOST_COUNT = 1 << 53
"""Every language has the whole numbers up to this one."""
MOST_NAMES = 200
"""Of errors, of counters, of conditions: a device that lies may have new names in each window."""
_OFTEN = (
    "cache_hits cache_misses outputs_checked outputs_clipped inputs_checked inputs_clipped shadow_runs shadow_agreed "
    "power_w under_voltage frequency_capped soft_temperature_limit frequency_max_mhz memory_available_mib throttled "
    "temperature_c frequency_mhz input: confidence: entropy: queue preprocess infer postprocess"
)
_NAMES = _OFTEN.replace(" ", "").encode()
"""What windows are squeezed with; another text here would make those that are kept unreadable."""

Buckets = dict[int, int]
Stages = dict[str, Buckets]
Range = tuple[float, float, float, int]
"""The least, the sum and the most of so many values."""
Key = TypeVar("Key", int, str)


class Tally(Struct, array_like=True):
    """``buckets`` of whole calls; ``stages`` lie beside it, for they are asked for less often."""

    buckets: Buckets = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, Range] = field(default_factory=dict)
    drift: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def take(self, other: Tally) -> None:
        """Count what the other one has counted too."""
        count(self.buckets, other.buckets)
        count(self.errors, other.errors)
        count(self.counters, other.counters)
        for name, told in other.conditions.items():
            if name in self.conditions or len(self.conditions) < MOST_NAMES:
                self.conditions[name] = _both(self.conditions.get(name), told)
        for name, bins in other.drift.items():
            if name in self.drift or len(self.drift) < MOST_NAMES:
                self.drift[name] = _summed(self.drift.get(name, ()), bins)


def of(window: Window) -> Tally:
    """What a window counted, but for its stages; shares nothing that ``take`` changes with it."""
    conditions = {name: (value, value, value, 1) for name, value in window.conditions.items()}
    return Tally(dict(window.buckets), dict(window.errors), dict(window.counters), conditions, dict(window.drift))


def count(total: dict[Key, int], more: Mapping[Key, int]) -> None:
    """Add ``more`` to the total; of what a device may choose, the names and the numbers stay bounded."""
    get = total.get
    for key, number in more.items():
        total[key] = get(key, 0) + number
    if total and max(total.values()) > MOST_COUNT:
        total.update((key, min(number, MOST_COUNT)) for key, number in list(total.items()))
    if len(total) > MOST_NAMES:
        for key in [key for key in total if isinstance(key, str)][MOST_NAMES:]:
            del total[key]


def count_stages(total: Stages, more: Stages) -> None:
    for name, buckets in more.items():
        if name in total:
            count(total[name], buckets)
        elif len(total) < MOST_NAMES:
            total[name] = dict(buckets)


pack = msgpack.Encoder().encode
unpack = msgpack.Decoder(Tally).decode
unpack_stages = msgpack.Decoder(Stages).decode
unpack_conditions = msgpack.Decoder(dict[str, float]).decode
_unpack_window = msgpack.Decoder(tuple[Tally, Stages, dict[str, float]]).decode


def pack_window(window: Window) -> bytes:
    """All that is not in a row's columns."""
    squeezed = zlib.compressobj(1, zdict=_NAMES)
    counted = Tally(window.buckets, window.errors, window.counters, {}, window.drift)
    return squeezed.compress(pack((counted, window.stages, window.conditions))) + squeezed.flush()


def unpack_window(body: bytes) -> tuple[Tally, Stages, dict[str, float]]:
    """What was counted, the stages and the conditions."""
    return _unpack_window(zlib.decompressobj(zdict=_NAMES).decompress(body))


def _both(one: Range | None, other: Range) -> Range:
    if one is None:
        return other
    return min(one[0], other[0]), one[1] + other[1], max(one[2], other[2]), one[3] + other[3]


def _summed(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Of as many bins; what has another number of them is of another profile, and stays out."""
    if not one or len(one) != len(other):
        return one or other
    return tuple(min(a + b, MOST_COUNT) for a, b in zip(one, other, strict=True))
