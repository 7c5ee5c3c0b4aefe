"""What a machine must be and have for a device with a card, and for an emulated board."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from edgekit.lab import sshd

CARD = {
    "flock": "util-linux",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
"""Programs, and the Debian package that each is in."""
BOARD = {
    "apt-get": "apt",
    "chroot": "coreutils",
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "setpriv": "util-linux",
}
BINFMT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
MISC = Path("/proc/sys/fs/binfmt_misc")
TRIAL = f"mount --bind /tmp /tmp && {{ [ $0 = card ] || [ -e {MISC}/register ] || mount -t binfmt_misc none {MISC}; }}"


def lacking(*, emulated: bool) -> str | None:
    """Why there can be no such device here and what to do about it, or None."""
    what = "an emulated board" if emulated else "a device with a card"
    if sys.platform != "linux" or os.geteuid() != 0:
        return f"{what} needs root, on Linux"
    if emulated and platform.machine() != "x86_64":
        return f"{what} needs an x86-64 machine"
    packages = _missing(emulated)
    if packages:
        return f"{what} needs programs that are not here; Debian: apt-get install {' '.join(packages)}"
    if not Path("/dev/loop-control").exists():
        return f"{what} needs loop devices, and this machine has none"
    trial = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", TRIAL, "board" if emulated else "card"]
    done = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{what} needs namespaces{' and binfmt_misc' if emulated else ''}: {done.stderr.strip()[:200]}"
    return None


def _missing(emulated: bool) -> list[str]:
    programs = {**CARD, **(BOARD if emulated else {})}
    missing = {package for program, package in programs.items() if shutil.which(program) is None}
    missing |= {"openssh-server"} if not emulated and sshd.find() is None else set()
    missing |= {"qemu-user-static"} if emulated and not BINFMT.exists() else set()
    return sorted(missing)
