"""Machine: what the front's process takes, by the names that all exporters use, and how the device is, as Prometheus
is told.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Mapping

from edgekit_runtime import processes

if TYPE_CHECKING:
    from edgekit_server.aliases import Family

READ_S = 5.0
"""How long what the sensors said is told again: who asks more often has nothing read for it."""
_UNITS = {
    "temperature_c": ("temperature_celsius", 1),
    "frequency_mhz": ("frequency_hertz", 10**6),
    "frequency_max_mhz": ("frequency_max_hertz", 10**6),
    "gpu_frequency_mhz": ("gpu_frequency_hertz", 10**6),
    "gpu_frequency_max_mhz": ("gpu_frequency_max_hertz", 10**6),
    "power_w": ("power_watts", 1),
    "memory_available_mib": ("memory_available_bytes", 1 << 20),
}
_HELD_BACK = ("throttled", "under_voltage", "frequency_capped", "soft_temperature_limit")


class Conditions:
    """``root``: the folder that stands for the machine's "/"."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root, self._until_s = root, 0.0
        self._read: Callable[[], Mapping[str, float]] | None = None
        self._last: Mapping[str, float] = {}

    def families(self) -> Iterator[Family]:
        """Only what the machine can tell."""
        if time.monotonic() >= self._until_s:
            self._read = self._read or _sensors(self._root)
            self._last, self._until_s = self._read(), time.monotonic() + READ_S
        for key, (unit, factor) in _UNITS.items():
            if key in self._last:
                name = f"edgekit_device_{unit}"
                yield name, "gauge", [(name, {}, self._last[key] * factor)]
        name = "edgekit_device_throttled"
        yield name, "gauge", [(name, {"kind": key}, self._last[key]) for key in _HELD_BACK if key in self._last]


def _sensors(root: Path) -> Callable[[], Mapping[str, float]]:
    """They look about as they begin: not before anybody asks. Nothing, where they are not installed."""
    try:
        from edgekit_watch.sensors import Sensors
    except ImportError:
        return dict
    return Sensors(root).read


CONDITIONS = Conditions()
"""Of the machine that this process runs on."""


def process() -> Iterator[Family]:
    """The front's own."""
    facts = processes.facts(os.getpid())
    if facts:
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        started_s = time.time() - time.monotonic() + int(facts[19]) / tick
        yield (
            "process_cpu_seconds_total",
            "counter",
            [("process_cpu_seconds_total", {}, (int(facts[11]) + int(facts[12])) / tick)],
        )
        yield "process_resident_memory_bytes", "gauge", [("process_resident_memory_bytes", {}, int(facts[21]) * page)]
        yield "process_start_time_seconds", "gauge", [("process_start_time_seconds", {}, round(started_s, 2))]
        yield "process_open_fds", "gauge", [("process_open_fds", {}, len(os.listdir("/proc/self/fd")))]
