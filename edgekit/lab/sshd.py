"""The OpenSSH server of this machine, run for a device: as the caller, with a configuration of the device's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.lab import login
from edgekit.lab.login import Login
from edgekit.lab.process import Process, read, wait

START_TIMEOUT_S = 15.0
ATTEMPTS = 5
TAKEN = "Cannot bind any address"
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")


def find() -> Path | None:
    """By its absolute path, which it insists on."""
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))
    return Path(found).absolute() if found else None


def process(folder: Path) -> Process:
    return Process(folder / "sshd.pid", str(folder / "sshd_config"))


def halt(folder: Path) -> None:
    """End a device's sshd, if it runs: asked first, then killed."""
    process(folder).end(signal.SIGTERM, signal.SIGKILL)


def launch(way: Login, sshd: Path) -> None:
    """Start it as a daemon. Raises: DeviceError."""
    for _ in range(ATTEMPTS):
        configure(way, sshd)
        try:
            if _listens(way.folder, sshd):
                return
        except BaseException:
            wait(lambda: process(way.folder).pid is not None, 1.0)  # its pid file may be on the way
            halt(way.folder)
            raise
    raise DeviceError(f"{way.folder.name}: every port was taken", "try again")


def configure(way: Login, sshd: Path) -> None:
    """Raises: DeviceError when it does not accept its configuration."""
    if os.geteuid() == 0 and Path("/run").is_dir():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # an init script's work, and nobody's in a container
    way.configure(login.free_port(way.port))
    effective = subprocess.run([sshd, "-T", "-f", way.config], capture_output=True, text=True, check=False)
    if effective.returncode:
        raise DeviceError(f"{way.folder.name}: sshd does not accept its configuration: {effective.stderr.strip()}")
    if "persourcepenalt" in effective.stdout.lower():  # OpenSSH 9.8 and later: all sources are one here
        with way.config.open("a") as config:
            config.write("PerSourcePenalties no\n")


def _listens(folder: Path, sshd: Path) -> bool:
    """Start it and wait until it listens; False when the port was taken meanwhile. Raises: DeviceError."""
    log, server = folder / "sshd.log", process(folder)
    log.unlink(missing_ok=True)
    server.pid_file.unlink(missing_ok=True)
    command = [str(sshd), "-f", str(folder / "sshd_config"), "-E", str(log)]  # it makes itself a daemon
    started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if not started.returncode:
        wait(lambda: server.pid is not None or TAKEN in read(log), START_TIMEOUT_S)
    if server.pid is None and TAKEN not in read(log):
        reason = read(log).strip().rpartition("\n")[2]
        raise DeviceError(f"{folder.name}: sshd does not start: {reason or 'no answer'}")
    return server.pid is not None
