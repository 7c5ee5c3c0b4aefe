"""The base tree: Debian 12 for aarch64, all that is on a board's card before anybody has written to it.

It lies in the user's cache, under the digest of its recipe, and is never written to again. It is made under another
name and renamed when it is complete, by one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from edgekit import user_cache
from edgekit.lab import mirror

RELEASE = "bookworm"
PYTHON = "python3.11"
PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "findutils", "grep", "hostname", "libc-bin", "login"),
    *("libstdc++6", "openssh-server", "openssh-sftp-server", "procps", "python3", "sed", "util-linux"),
)
"""What is in the tree, beside what these need."""
NEEDLESS = ("doc", "info", "locale", "man")
ACCOUNTS = "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n"
APART = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Begins a command that has namespaces of its own, and ends with this process."""
VCGENCMD = """\
#!/bin/sh
# Stands in for Raspberry Pi's: what the firmware would say stands in files.
case $1 in
get_throttled) echo "throttled=0x$(cat /sys/devices/platform/soc/soc:firmware/get_throttled)" ;;
measure_temp) t=$(cat /sys/class/thermal/thermal_zone0/temp) && echo "temp=$((t / 1000)).$((t % 1000 / 100))'C" ;;
*) echo "vcgencmd: $1 is not simulated" >&2; exit 1 ;;
esac
"""


def ensure(tell: Callable[[str], None]) -> Path:
    """Where it lies; made where it is missing, in about half a minute. Raises: DeviceError, EdgekitError."""
    place = user_cache.folder("boards") / f"{RELEASE}-arm64-{_recipe()}"
    if not place.exists():
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():  # nobody was quicker
                tell("making the tree that emulated boards share (190 MB, only this once)")
                _make(place)
    return place


def _recipe() -> str:
    return sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def _make(place: Path) -> None:
    """No maintainer script runs: under emulation they take minutes. What is needed of their work is done here."""
    half = place.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)  # of one that was stopped
    try:
        _extract(half)
        for name in NEEDLESS:
            shutil.rmtree(half / "usr" / "share" / name)
        (half / "etc" / "pip.conf").write_text("[install]\ncompile = no\n")  # a fifth of a setup
        (half / "usr" / "bin" / "vcgencmd").write_text(VCGENCMD)
        (half / "usr" / "bin" / "vcgencmd").chmod(0o755)
        _add_accounts(half)
        _compile(half)
        os.sync()
        half.rename(place)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _extract(root: Path) -> None:
    hooks = "/usr/share/mmdebstrap/hooks/merged-usr"
    options = ["--quiet", "--variant=extract", "--architectures=arm64", "--format=directory", "--skip=check/qemu"]
    options += [f"--hook-dir={hooks}", f"--include={','.join(PACKAGES)}", *mirror.options()]
    command = [*APART, "mmdebstrap", *options, RELEASE, str(root), mirror.source(RELEASE)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise mirror.failure(done.stderr)


def _add_accounts(root: Path) -> None:
    for name, more in (("passwd", ACCOUNTS), ("group", "pi:x:1000:\n")):
        master = (root / "usr" / "share" / "base-passwd" / f"{name}.master").read_text()
        (root / "etc" / name).write_text(master.replace(":*:", ":x:") + more)
    names = [line.partition(":")[0] for line in (root / "etc" / "passwd").read_text().splitlines()]
    shadow = root / "etc" / "shadow"
    shadow.touch(mode=0o640)
    shadow.write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    (root / "home" / "pi").mkdir()
    os.chown(root / "home" / "pi", 1000, 1000)


def _compile(root: Path) -> None:
    """Else its Python compiles all that it imports, at every start."""
    ours = sys.executable if PYTHON.endswith(platform.python_version().rpartition(".")[0]) else shutil.which(PYTHON)
    if ours:
        folder = root / "usr" / "lib" / PYTHON
        command = [ours, "-m", "compileall", "-q", "-s", str(root), str(folder)]
        subprocess.run(command, check=False, capture_output=True)
