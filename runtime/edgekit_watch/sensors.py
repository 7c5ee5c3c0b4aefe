"""Sensors: what a machine works under, as its kernel tells: heat, clocks, power, memory, and what holds it back."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path

from edgekit_runtime import probe
from edgekit_watch import holding_back, sysfs

_CHIP = re.compile(r"cpu|gpu|soc|tj|pkg", re.IGNORECASE)
"""Zones of the chip itself; others are of a board, a radio or a battery."""
_CONSTANT = re.compile(r"pmic", re.IGNORECASE)
"""A Jetson's says 50 or 100 °C whatever happens."""
_GPU = re.compile(r"gpu|\.g[a-z]\d\db$")
_WHOLE = ("VDD_IN", "POM_5V_IN")
"""Rails that all the others hang on."""
_IIO = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"
"""Where Jetsons had their INA3221 until Jetson Linux 32: in mW."""
_MOST = 1e9
COLDEST, HOTTEST = -40.0, 150.0


class Sensors:
    """``root``: the folder that stands for the machine's "/"."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = str(root).rstrip("/")
        self._held_back = holding_back.look(self._root)

    def read(self) -> dict[str, float]:
        """What the machine can tell of these, a few files each; it never raises.

        temperature_c (the hottest part of the chip), frequency_mhz and frequency_max_mhz (of the fastest processor),
        gpu_frequency_mhz and gpu_frequency_max_mhz, power_w, memory_available_mib. And 1 where it is so now or has
        been since the last time, else 0: throttled, under_voltage, frequency_capped, soft_temperature_limit.
        """
        before, self._held_back = self._held_back, holding_back.look(self._root)
        return {**_measured(self._root), **self._held_back.since(before)}


def read(root: Path = Path("/")) -> dict[str, float]:
    """The same, once: nothing is known of before."""
    place = str(root).rstrip("/")
    seen = holding_back.look(place)
    return {**_measured(place), **seen.since(seen)}


def _measured(root: str) -> dict[str, float]:
    watts, celsius = _power(root), _temperature(root)
    free = probe.mebibytes(sysfs.text(f"{root}/proc/meminfo"), "MemAvailable")
    found = {"temperature_c": celsius, "power_w": watts, "memory_available_mib": free}
    known = {key: float(value) for key, value in found.items() if value is not None and abs(value) < _MOST}
    return {**known, **_clocks(root)}


def _temperature(root: str) -> float | None:
    """Of the hottest zone of the chip; of the others, where none is named after it."""
    zones = glob(f"{root}/sys/class/thermal/thermal_zone*")
    found = [(sysfs.text(f"{zone}/type"), sysfs.number(f"{zone}/temp")) for zone in zones]
    known = [(kind, raw / 1000) for kind, raw in found if raw is not None and COLDEST < raw / 1000 < HOTTEST]
    chip = [celsius for kind, celsius in known if _CHIP.search(kind)]
    return max(chip or [celsius for kind, celsius in known if not _CONSTANT.search(kind)], default=None)


def _clocks(root: str) -> dict[str, float]:
    policies = [(f"{place}/scaling_cur_freq", f"{place}/cpuinfo_max_freq") for place in sysfs.policies(root)]
    places = [place for place in glob(f"{root}/sys/class/devfreq/*") if _GPU.search(place)]
    gpus = [(f"{place}/cur_freq", f"{place}/max_freq") for place in places]
    return {**_fastest("", policies, 1e3), **_fastest("gpu_", gpus, 1e6)}


def _fastest(whose: str, files: list[tuple[str, str]], per_mhz: float) -> dict[str, float]:
    """``files``: of each, what it runs at and what it can."""
    pairs = [(now, most) for now, most in ((sysfs.number(a), sysfs.number(b)) for a, b in files) if now and most]
    if not pairs:
        return {}
    now, most = max(pairs)
    return {f"{whose}frequency_mhz": now / per_mhz, f"{whose}frequency_max_mhz": most / per_mhz}


def _power(root: str) -> float | None:
    """Of the rail that all hang on; of all rails, where none is named so."""
    rails = [rail for place in sysfs.monitors(root, "ina") for rail in _rails(place)]
    rails += [rail for place in glob(f"{root}/{_IIO}") for rail in _old_rails(place)]
    whole = [watts for name, watts in rails if name in _WHOLE]
    return whole[0] if whole else sum(watts for _, watts in rails) if rails else None


def _rails(place: str) -> list[tuple[str, float]]:
    """A monitor's, by name, in watts: its own sum where it makes one, else mV × mA. (From the fourth on an INA3221 has
    voltages of shunts.)
    """
    microwatts = sysfs.number(f"{place}/power1_input")
    if microwatts is not None:
        return [("", microwatts / 1e6)]
    found = []
    for channel in (1, 2, 3):
        volts, amps = sysfs.number(f"{place}/in{channel}_input"), sysfs.number(f"{place}/curr{channel}_input")
        if volts is not None and amps is not None:
            found.append((sysfs.text(f"{place}/in{channel}_label"), volts * amps / 1e6))
    return found


def _old_rails(place: str) -> list[tuple[str, float]]:
    watts = [(channel, sysfs.number(f"{place}/in_power{channel}_input")) for channel in (0, 1, 2)]
    return [(sysfs.text(f"{place}/rail_name_{channel}"), mw / 1000) for channel, mw in watts if mw is not None]


__all__ = ["Sensors", "read"]
