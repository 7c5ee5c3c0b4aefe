"""Conditions: under which a run was measured, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekit_runtime.windows import Window

SHARES = {"throttled": "throttled", "frequency_capped": "frequency capped"}
SEEN = {"under_voltage": "supply under-voltage seen", "soft_temperature_limit": "soft temperature limit reached"}
RANGES = {
    "temperature_c": "{} °C",
    "frequency_mhz": "{} MHz",
    "gpu_frequency_mhz": "GPU at {} MHz",
    "power_w": "{} W",
}
OTHERS = "others_share"
NOTABLE = 0.05
"""The share of the processor from which on others are told of."""


@dataclass(frozen=True)
class Conditions:
    """``shares`` of the run's time in which something held the machine back, ``ranges`` from the least to the most; of
    both what the machine tells. ``others``: the share of the processor that was not ours; ``programs``: whose, by name.
    """

    shares: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    others: float
    programs: Mapping[str, float]

    def __str__(self) -> str:
        return "; ".join((*self._held_back(), *self._measured(), *self._busy()))

    def _held_back(self) -> Iterable[str]:
        """What nobody can tell is said to be so: silence would be taken for good news."""
        if not self.shares.keys() & SHARES.keys():
            yield "whether it throttled, this machine does not tell"
        elif not any(self.shares.get(key) for key in SHARES):
            yield "not throttled"
        yield from (f"{told} {_percent(self.shares[key])} of the run" for key, told in SHARES.items() if self._met(key))
        yield from (told for key, told in SEEN.items() if self._met(key))

    def _met(self, key: str) -> bool:
        return self.shares.get(key, 0) > 0

    def _measured(self) -> Iterable[str]:
        for key, told in RANGES.items():
            if key in self.ranges:
                least, most = (f"{value:.0f}" for value in self.ranges[key])
                yield told.format(least if least == most else f"{least} to {most}")

    def _busy(self) -> Iterable[str]:
        if self.others >= NOTABLE:
            whose = f" ({', '.join(self.programs)})" if self.programs else ""
            yield f"busy: others took {_percent(self.others)} of the processor{whose}"

    def as_dict(self) -> dict[str, object]:
        ranges = {key: {"least": least, "most": most} for key, (least, most) in self.ranges.items()}
        return {
            "told": str(self),
            "shares": dict(self.shares),
            "ranges": ranges,
            "others_share": self.others,
            "programs": dict(self.programs),
        }


def conditions_of(windows: Sequence[Window], programs: Mapping[str, float]) -> Conditions:
    """Of a run of at least one window."""
    shares = {key: _mean(windows, key) for key in (*SHARES, *SEEN) if _values(windows, key)}
    found = {key: _values(windows, key) for key in RANGES}
    ranges = {key: (min(values), max(values)) for key, values in found.items() if values}
    return Conditions(shares, ranges, _mean(windows, OTHERS), programs)


def _values(windows: Sequence[Window], key: str) -> list[float]:
    return [window.conditions[key] for window in windows if key in window.conditions]


def _mean(windows: Sequence[Window], key: str) -> float:
    """By the time that each window took; 0 without any."""
    told = [(window.end_s - window.start_s, window.conditions[key]) for window in windows if key in window.conditions]
    seconds = sum(each for each, _ in told)
    return round(sum(each * value for each, value in told) / seconds, 4) if seconds else 0.0


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= 0.005 else "less than 1 %"
