"""Booted: a Debian of this machine's architecture with systemd as its first process, in a container of systemd-nspawn.

Its sshd listens on the loopback. It can be rebooted: what is written there is kept beside it for as long as it is
held, over a tree that is made once and lies in the user's cache. All of it ends with this process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import platformdirs
import pytest

from edgekit.errors import DeviceError
from edgekit.lab import login, mirror
from edgekit.lab.base_tree import APART, RELEASE
from edgekit.lab.login import Login
from edgekit.lab.process import read, wait

CACHE = platformdirs.user_cache_path("edgekit-lab")  # read before a test moves the caller's home
CGROUPS = Path("/sys/fs/cgroup")
USER = "pi"
BOOT_TIMEOUT_S = 60.0
REBOOTED = 133
NEEDS = {
    "apt-get": "apt",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""Programs, and the Debian package that each is in."""
PACKAGES = ("dbus-user-session", "libpam-systemd", "openssh-server", "python3-venv", "sudo", "systemd-sysv")
NEEDLESS = ("doc", "locale", "man")
MAKE = (
    *("--quiet", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NEEDLESS),
    *('--aptopt=APT::Install-Recommends "false"', f'--customize-hook=chroot "$1" useradd -ms /bin/bash {USER}'),
    f'--customize-hook=echo "{USER} ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/{USER}"',
)
"""As Raspberry Pi's images have it: an account that may become root."""
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey /etc/ssh/sshd_config.d/host_key
AuthorizedKeysFile /etc/ssh/sshd_config.d/client_key.pub
"""
BOOT = f"""\
cd "$1"
for group in $GROUPS_OF_IT; do mkdir -p "$group" && echo 0 >"$group/cgroup.procs" || exit; done
mount -t overlay -o lowerdir=tree,upperdir=up,workdir=work overlay root || exit
status={REBOOTED}
while [ $status = {REBOOTED} ]; do
  systemd-nspawn --quiet --register=no --keep-unit --console=pipe --machine="$2" --directory=root \\
    --bind-ro="$1/ssh:/etc/ssh/sshd_config.d" --boot
  status=$?
done
exit $status
"""


@dataclass(frozen=True)
class Booted:
    """``way`` leads to root; ``user``, by which also a person without root gets in, to an account that has sudo."""

    way: Login

    @property
    def root(self) -> str:
        return self.way.uri

    @property
    def user(self) -> str:
        return replace(self.way, user=USER).uri

    def ssh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of root's, by OpenSSH's own client."""
        command = ("ssh", "-F", str(self.way.folder / "ssh_config"), "-o", "ConnectTimeout=5", self.way.folder.name)
        return subprocess.run([*command, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)

    def boot(self) -> str:
        """By what one boot can be told from another: the moment of it, by this machine's clock."""
        return self.ssh("systemctl", "show", "--property=UserspaceTimestampMonotonic").stdout

    def is_up(self) -> bool:
        """Whether all that starts with it has started, be it with a failure."""
        return self.ssh("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def reboot(self) -> None:
        before = self.boot()
        self.ssh("systemctl", "reboot")
        assert wait(lambda: self.boot() not in ("", before) and self.is_up(), BOOT_TIMEOUT_S), self.console

    @property
    def console(self) -> str:
        return read(self.way.folder / "console.log")


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """One in a folder, which is made. Skips, with the reason, where this machine cannot have one."""
    if why := lacking():
        pytest.skip(why)
    name = f"edgekit-{sha256(str(folder).encode()).hexdigest()[:12]}"
    device, groups = _furnish(folder), _groups(name)
    environment = {**os.environ, "GROUPS_OF_IT": " ".join(map(str, groups))}
    command = [*APART, "sh", "-c", BOOT, "boot", str(folder), name]
    with (folder / "console.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        wait(lambda: device.is_up() or process.poll() is not None, BOOT_TIMEOUT_S)
        if process.poll() is not None:
            pytest.skip(f"this machine boots no container: {device.console.strip()[-300:]}")
        assert device.is_up(), device.console
        yield device
    finally:
        process.kill()
        process.wait()
        for group in groups:
            wait(lambda group=group: _gone(group), 5.0)  # type: ignore[misc]


def lacking() -> str | None:
    """Why there can be none here, and what to do about it, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a device with a systemd of its own needs root, on Linux"
    if packages := sorted({package for program, package in NEEDS.items() if shutil.which(program) is None}):
        return f"a device with a systemd of its own needs programs: apt-get install {' '.join(packages)}"
    return None


def _furnish(folder: Path) -> Booted:
    for name in ("up", "work", "root", "ssh"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o755)
    try:
        (folder / "tree").symlink_to(_tree())
    except DeviceError as error:
        pytest.skip(str(error))
    way = Login(folder, "root", Path("/etc/ssh"))
    way.make_keys("ssh-keygen")
    way.configure(login.free_port(0))
    for name in ("host_key", "client_key.pub"):
        shutil.copy(folder / name, folder / "ssh")
    (folder / "ssh" / "edgekit.conf").write_text(SERVER.format(port=way.port))
    return Booted(way)


def _tree() -> Path:
    """Where it lies; made where it is missing, in about half a minute. Raises: DeviceError."""
    recipe = sha256(repr((MAKE, RELEASE)).encode()).hexdigest()[:16]
    place = CACHE / f"{RELEASE}-systemd-{recipe}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "systemd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            half = place.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)  # of one that was stopped
            command = [*APART, "mmdebstrap", *MAKE, *mirror.options(), RELEASE, str(half), mirror.source(RELEASE)]
            made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if made.returncode:
                raise mirror.failure(made.stderr)
            half.rename(place)
    return place


def _groups(name: str) -> list[Path]:
    """Where systemd keeps those of what it starts: in version 1 of control groups, in version 2, or in both."""
    places = [CGROUPS, CGROUPS / "unified", CGROUPS / "systemd"]
    return [place / name for place in places if (place / "cgroup.procs").exists()]


def _gone(group: Path) -> bool:
    """Removed, as soon as the last process in it has ended."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
