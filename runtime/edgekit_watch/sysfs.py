"""Sysfs: numbers in the files by which a kernel tells of its machine; None for what it does not tell."""

from __future__ import annotations

import re
from glob import glob

_NUMBER = re.compile(r"-?[0-9]{1,15}")

MOST_POLICIES = 8
"""Processors of a kind share one; servers have one each, and the first are as good as all."""


def text(path: str) -> str:
    """What a file says; nothing, where it cannot be read now: a sensor that sleeps gives an error."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip("\0\n ")
    except OSError:
        return ""


def number(path: str) -> float | None:
    """A whole number, as nearly all of these files hold; what has more digits is none of theirs."""
    said = text(path)
    return float(said) if _NUMBER.fullmatch(said) else None


def monitors(root: str, name: str) -> list[str]:
    """The folders of hardware monitors whose name begins so (hwmon)."""
    places = sorted(glob(f"{root}/sys/class/hwmon/hwmon*"))
    return [place for place in places if text(f"{place}/name").startswith(name)]


def policies(root: str) -> list[str]:
    """The folders of processors that have a clock together (cpufreq)."""
    return sorted(glob(f"{root}/sys/devices/system/cpu/cpufreq/policy*"))[:MOST_POLICIES]
