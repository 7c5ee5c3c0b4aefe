"""Holding back: whether a machine runs slower than it can, by its firmware's word and its kernel's.

Raspberry Pi: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled. Jetson: NVIDIA's Jetson Linux
Developer Guide, "Platform Power and Performance". Else cooling devices, cpufreq and the counters of x86 in sysfs.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from glob import glob

from edgekit_watch import sysfs

_PI = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
"""By bit, now; 16 bits further on: since the board was started."""
_FIRMWARE = "sys/devices/platform/soc*/*firmware/get_throttled"
_PROGRAMS = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")
_JETSON = {"oc1": "under_voltage", "oc2": "throttled", "oc3": "throttled"}
_SLOWED = re.compile(r"(thermal-)?(cpu|dev)freq|processor|.*throttle-alert", re.IGNORECASE)
_MOST_CORES = 8
ASKED_S = 1.0


@dataclass(frozen=True)
class HeldBack:
    """``now``: whether; ``happened``: how often since the machine was started, as far as it counts. By name: throttled,
    under_voltage, frequency_capped, soft_temperature_limit; only those that the machine tells of.
    """

    now: dict[str, bool] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)

    def since(self, before: HeldBack) -> dict[str, float]:
        """1 for each that is so now, or has been since then; else 0."""
        more = {name: count > before.happened.get(name, count) for name, count in self.happened.items()}
        return {name: float(more.get(name, False) or self.now.get(name, False)) for name in {**more, **self.now}}


def look(root: str) -> HeldBack:
    """What the machine below a folder says. Never raises."""
    seen = HeldBack()
    for each in (_firmware(root), _overcurrent(root), _counted(root), _cooled(root), _capped(root)):
        now = {name: seen.now.get(name, False) or each.now.get(name, False) for name in {**seen.now, **each.now}}
        counts = {**seen.happened, **each.happened}
        seen = HeldBack(now, {name: seen.happened.get(name, 0) + each.happened.get(name, 0) for name in counts})
    return seen


def _firmware(root: str) -> HeldBack:
    """A Raspberry Pi's, by its file; its program, where there is no file, costs a process. Else only its voltage."""
    said = next((text for text in map(sysfs.text, glob(f"{root}/{_FIRMWARE}")) if text), "") or _asked(root)
    try:
        bits = int(said, 16)
    except ValueError:
        alarm = next((sysfs.number(f"{place}/in0_lcrit_alarm") for place in sysfs.monitors(root, "rpi_volt")), None)
        return HeldBack() if alarm is None else HeldBack({"under_voltage": bool(alarm)})
    now = {name: bool(bits >> bit & 1) for bit, name in enumerate(_PI)}
    return HeldBack(now, {name: bits >> 16 + bit & 1 for bit, name in enumerate(_PI)})


def _asked(root: str) -> str:
    """``throttled=0x50000`` without what stands before the number."""
    for program in _PROGRAMS:
        try:
            done = subprocess.run(
                [f"{root}/{program}", "get_throttled"], capture_output=True, timeout=ASKED_S, check=False
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return done.stdout.decode(errors="replace").partition("=")[2].strip()
    return ""


def _overcurrent(root: str) -> HeldBack:
    """A Jetson's: oc1 is the supply's voltage, the others its current, for which clocks are lowered."""
    happened: dict[str, int] = {}
    for place in sysfs.monitors(root, "soctherm_oc"):
        for event, name in _JETSON.items():
            count = sysfs.number(f"{place}/{event}_event_cnt")
            if count is not None:
                happened[name] = happened.get(name, 0) + int(count)
    return HeldBack(happened=happened)


def _counted(root: str) -> HeldBack:
    """An x86's: how often cores, and all of them together, became too hot."""
    places = sorted(glob(f"{root}/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))[:_MOST_CORES]
    counts = [sysfs.number(f"{place}/{kind}_throttle_count") for place in places for kind in ("core", "package")]
    known = [int(count) for count in counts if count is not None]
    return HeldBack(happened={"throttled": sum(known)}) if known else HeldBack()


def _cooled(root: str) -> HeldBack:
    """By the kernel, which lowers clocks as it speeds up fans."""
    places = glob(f"{root}/sys/class/thermal/cooling_device*")
    states = [sysfs.number(f"{place}/cur_state") for place in places if _SLOWED.match(sysfs.text(f"{place}/type"))]
    known = [state > 0 for state in states if state is not None]
    return HeldBack({"throttled": any(known)}) if known else HeldBack()


def _capped(root: str) -> HeldBack:
    """By whoever may set limits: a power mode, a governor, a person."""
    pairs = [
        (sysfs.number(f"{policy}/scaling_max_freq"), sysfs.number(f"{policy}/cpuinfo_max_freq"))
        for policy in sysfs.policies(root)
    ]
    known = [limit < most for limit, most in pairs if limit is not None and most is not None]
    return HeldBack({"frequency_capped": any(known)}) if known else HeldBack()
