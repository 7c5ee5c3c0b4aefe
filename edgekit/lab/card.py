"""Card: a device's disk, an ext4 image on a loop device, and what befalls such cards.

``mounted`` is where it is mounted, as this process reaches it; the mount itself belongs to the device's namespace.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.lab.process import wait

MIB = 1 << 20
SMALLEST_MIB = 8
RELEASE_TIMEOUT_S = 20.0
FILLER = ".edgekit-filler"
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
"""fs/ext4/ext4.h: what is not in the journal on the disk yet is lost."""


def make(image: Path, mib: int) -> None:
    """A new, empty card; what nobody wrote takes no room here. Raises: DeviceError."""
    half = image.with_suffix(".half")
    with half.open("wb") as file:
        file.truncate(mib * MIB)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(half)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise DeviceError(f"{image}: mkfs.ext4 makes no card of {mib} MiB: {made.stderr.strip()[:200]}")
    half.rename(image)


def cut(mounted: Path) -> None:
    """The moment at which power goes: nothing reaches the card any more. Raises: OSError."""
    handle = os.open(mounted, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(handle)


def fill(mounted: Path) -> None:
    """No byte is left to anybody."""
    with (mounted / FILLER).open("ab") as file:
        for step in (64 * MIB, MIB, 1 << 16, 1 << 12):
            with suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
        os.fsync(file.fileno())


def clear(mounted: Path) -> None:
    """The opposite of ``fill``."""
    (mounted / FILLER).unlink(missing_ok=True)


def loop_of(image: Path) -> Path | None:
    """The loop device that an image is behind."""
    command = ["losetup", "--noheadings", "--output", "NAME", "--associated", str(image)]
    names = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return Path(names[0]) if names else None


def released(image: Path) -> None:
    """Return when nobody has the card mounted any more: only then does mounting it replay its journal.

    Raises: DeviceError.
    """
    if image.exists() and not wait(lambda: loop_of(image) is None, RELEASE_TIMEOUT_S):
        raise DeviceError(f"{image} is still mounted somewhere", "look at: losetup --associated")
