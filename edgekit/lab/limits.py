"""Limits: a device's own control groups, version 1 or 2, where this machine lets them be made."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgekit.lab.process import wait

ROOT = Path("/sys/fs/cgroup")
FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "blkio": ("blkio.throttle.write_bps_device", "io.max"),
}
"""What sets a limit, in version 1 and 2."""


def groups(name: str) -> list[Path]:
    """Those that a device of that name is in; each is made where it is missing and can be made."""
    made = []
    for place in _places(name):
        with suppress(OSError):
            place.mkdir(exist_ok=True)
            made.append(place)
    return made


def remove(name: str) -> None:
    """When the last process in them has gone."""
    for place in _places(name):
        if place.exists():
            wait(lambda place=place: _gone(place), 5.0)  # type: ignore[misc]


def memory(name: str, mib: int) -> bool:
    """Whether the device has no more than that from now on."""
    return _limit(name, "memory", str(mib << 20), str(mib << 20))


def write_speed(name: str, disk: Path, bytes_s: int | None) -> bool:
    """Whether the device writes no faster than that to a disk from now on; None takes the limit away."""
    number = disk.stat().st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"
    return _limit(name, "blkio", f"{device} {bytes_s or 0}", f"{device} wbps={bytes_s or 'max'}")


def _places(name: str) -> list[Path]:
    if (ROOT / "cgroup.controllers").exists():
        with suppress(OSError):
            (ROOT / "cgroup.subtree_control").write_text("+memory +io")
        return [ROOT / name]
    return [ROOT / controller / name for controller in FILES if (ROOT / controller).is_dir()]


def _limit(name: str, controller: str, first: str, second: str) -> bool:
    old, new = FILES[controller]
    for file, text in ((ROOT / controller / name / old, first), (ROOT / name / new, second)):
        if file.exists():
            with suppress(OSError):
                file.write_text(text)
                return True
    return False


def _gone(place: Path) -> bool:
    with suppress(OSError):
        place.rmdir()
    return not place.exists()
