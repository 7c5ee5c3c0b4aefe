"""Machine: a device with a disk of its own and a switch, in namespaces that end with its first process.

All that it mounts, and all that runs on it, goes when that process goes, whoever kills it. What it has written is on
its card, ``card.img``. With a board it is ARM's Debian under qemu, its root an overlay of the base tree and the card;
without one it is this machine's sshd, and $EDGEKIT_HOME is on the card.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.lab import board as boards
from edgekit.lab import card, limits, requirements
from edgekit.lab.board import Board
from edgekit.lab.process import Process, read, wait

START_TIMEOUT_S = 60.0
MISC = requirements.MISC
FOLDERS = ("base", "card", "home", "root", "ssh")

_BEGIN = """\
set -e
cd "$1"
for group in $GROUPS_OF_IT; do echo 0 >"$group/cgroup.procs"; done
mount -o loop card.img card
"""
_NATIVE = (
    _BEGIN
    + """\
mount -t proc proc /proc
mkdir -p card/home
mount --bind card/home home
exec "$SSHD" -D -e -f "$1/sshd_config"
"""
)
_EMULATED = (
    _BEGIN
    + f"""\
[ -e {MISC}/register ] || mount -t binfmt_misc none {MISC}
[ ! -e {MISC}/"$ID" ] || echo -1 >{MISC}/"$ID"
printf %s "$HANDLER" >{MISC}/register
mount --bind "$BASE" base
mkdir -p card/disk card/work
mount -t overlay -o lowerdir=base,upperdir=card/disk,workdir=card/work overlay root
mount -t proc proc root/proc
for file in hardware/proc/*; do mount --bind "$file" "root/proc/${{file##*/}}"; done
mount --bind hardware/sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mkdir root/run/sshd
mount --bind ssh root/etc/ssh
hostname "$NAME"
exec env -i PATH=/usr/sbin:/usr/bin QEMU_CPU="$CPU" chroot root /usr/sbin/sshd -D -e
"""
)
_FORGET = f"""\
[ -e {MISC}/register ] || mount -t binfmt_misc none {MISC}
[ ! -e {MISC}/"$1" ] || echo -1 >{MISC}/"$1"
"""
_APART = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
_SWITCH = f"""\
exec 9>"$1/machine.lock" && flock --nonblock 9 || exit 0
: >"$1/sshd.log"
: >"$1/machine.pid"
setsid sh -c 'echo $$ >"$1/machine.pid"; exec {" ".join(_APART)} sh -c "$BOOT" boot "$1" on' boot "$1" &
while [ ! -s "$1/machine.pid" ]; do sleep 0.01; done
"""
"""Of two that start it at once, or one after another was killed, only one does: the first process keeps the lock."""


@dataclass(frozen=True)
class Machine:
    """The machine of a device's folder; ``base`` is the tree under a board's root, ``sshd`` the server without one."""

    folder: Path
    sshd: Path | None = None
    base: Path | None = None
    board: Board | None = None

    @property
    def id(self) -> str:
        """Its name where names are the whole machine's."""
        return f"edgekit-{sha256(str(self.folder).encode()).hexdigest()[:12]}"

    @property
    def image(self) -> Path:
        return self.folder / "card.img"

    @property
    def process(self) -> Process:
        return Process(self.folder / "machine.pid", f" {self.folder} ")

    @property
    def pid(self) -> int:
        """The process whose namespaces are its own. Raises: DeviceError when it is off."""
        pid = self.process.pid
        if pid is None:
            raise DeviceError(f"{self.folder.name} is not running", "start it first")
        return pid

    @property
    def mounted(self) -> Path:
        """Its card, as this process reaches it. Raises: DeviceError when it is off."""
        return Path(f"/proc/{self.pid}/root{self.folder}/card")

    def boot(self) -> None:
        """Switch it on, or find it on; its card is made when there is none. Raises: DeviceError."""
        if self.process.pid is None:
            for name in FOLDERS:
                (self.folder / name).mkdir(exist_ok=True)
            if self.board:
                self._furnish(self.board)
            self._start()
        self._wait_until_it_listens()

    def limit_memory(self) -> bool:
        """Whether it has no more memory than its board."""
        return self.board is not None and limits.memory(self.id, self.board.memory_mib)

    def cut(self) -> None:
        """Power goes: what its card has not got by now is lost, and everything on it ends. Raises: DeviceError."""
        card.cut(self.mounted)
        self.power_off()

    def power_off(self) -> None:
        """End it, if it runs, and wait until nobody has its card. Raises: DeviceError."""
        self.process.end(signal.SIGKILL)
        card.released(self.image)

    def forget(self) -> None:
        """Nothing of it stays in the kernel."""
        self.power_off()
        limits.remove(self.id)
        if (self.folder / "hardware").exists():
            command = [*_APART, "sh", "-c", _FORGET, "forget", self.id]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def mount_again(self, options: str) -> None:
        """Its card, with other options. Raises: DeviceError."""
        inside = f"{self.folder}/card"
        command = ["nsenter", "--target", str(self.pid), "--mount", "mount", "-o", f"remount,{options}", inside]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DeviceError(
                f"{self.folder.name}: its card is not mounted so: {done.stderr.strip()[:200]}", "try again"
            )

    def _furnish(self, board: Board) -> None:
        boards.show(board, self.folder / "hardware")
        for name in ("host_key", "client_key.pub", "sshd_config"):
            shutil.copy(self.folder / name, self.folder / "ssh")

    def _start(self) -> None:
        groups = limits.groups(self.id)
        self.limit_memory()
        with (self.folder / "sshd.log").open("ab") as log:
            subprocess.run(
                ["sh", "-c", _SWITCH, "switch", str(self.folder)],
                env=self._environment(groups),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )

    def _environment(self, groups: list[Path]) -> Mapping[str, str]:
        common = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GROUPS_OF_IT": " ".join(map(str, groups)), "ID": self.id}
        if self.board is None:
            return {**common, "BOOT": _NATIVE, "SSHD": str(self.sshd)}
        more = {"NAME": self.folder.name, "CPU": self.board.processor.name, "BASE": str(self.base)}
        return {**common, **more, "BOOT": _EMULATED, "HANDLER": self._handler()}

    def _handler(self) -> str:
        """Debian's line for binfmt_misc under a name of our own; C: programs like sudo keep their privilege."""
        _, _, *fields, _ = requirements.BINFMT.read_text().strip().split(":")
        return ":".join(["", self.id, *fields, "OCPF"])

    def _wait_until_it_listens(self) -> None:
        log = self.folder / "sshd.log"
        listens = wait(lambda: "Server listening" in read(log) or self.process.pid is None, START_TIMEOUT_S)
        if not listens or self.process.pid is None:
            self.power_off()
            reason = read(log).strip().partition("\n")[0]
            raise DeviceError(f"{self.folder.name} does not start: {reason[:300] or 'no answer'}")
