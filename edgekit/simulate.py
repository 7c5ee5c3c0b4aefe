"""A throw-away device on this machine: a real sshd of its own where there is one, else a folder; or a board, emulated.

The plain one shows the whole way (host keys, login, SFTP, the runtime's home), not other hardware: it runs what this
machine runs, as the caller, with a $HOME of its own. With a card, or as a board, it has a disk that faults can befall;
that takes root. Each listens on the loopback only and takes one key, which lies in its folder. Nothing of the caller's
~/.ssh is read or written. Programs left running on a plain one outlive it.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edgekit import transports
from edgekit.errors import ConfigError, DeviceError, TransportError
from edgekit.lab import base_tree, card, faults, login, requirements, sshd
from edgekit.lab import board as boards
from edgekit.lab.board import Board
from edgekit.lab.login import Login
from edgekit.lab.machine import Machine
from edgekit.target import Target

MARKER = ".edgekit-simulated"
CARD_MIB = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Simulated:
    """A device that runs. ``note`` says what it is, which transport leads to it, and why.

    ``home`` is its EDGEKIT_HOME, by the name that it has on the device. ``folder`` holds all of it. With ssh:
    ``ssh_config`` (for `ssh -F`), ``known_hosts``, ``client_key``, ``host_key``.
    """

    name: str
    uri: str
    kind: str
    home: Path
    folder: Path
    note: str
    emulated: bool = False


@dataclass(frozen=True)
class Kind:
    """What a device is to be; a board has a card always."""

    board: Board | None = None
    card_mib: int | None = None

    @property
    def words(self) -> str:
        """What its folder says of it."""
        return self.board.model if self.board else "sshd with a card" if self.card_mib else "sshd"

    @classmethod
    def of(cls, target: Target, card_mib: int | None = None) -> Kind:
        """A board where the target is of another architecture than this machine."""
        return cls(boards.of(target) if target.arch != platform.machine() else None, card_mib)


PLAIN = Kind()


def start(name: str, state: Path, kind: Kind = PLAIN, tell: Callable[[str], None] = lambda line: None) -> Simulated:
    """Start the device, or find it running. Its keys, its card and its port if that is free outlive a restart.

    Raises: ConfigError (a name that is no file name; a folder of somebody else, or of another kind of device),
    DeviceError (it does not start; this machine cannot have such a device).
    """
    folder = _folder(name, state)
    if kind == PLAIN and (folder / "card.img").exists():
        kind = Kind(card_mib=CARD_MIB)
    if kind != PLAIN and (why := requirements.lacking(emulated=kind.board is not None)):
        raise DeviceError(f"{name}: {why}")
    _adopt(folder, kind)
    return _plain(folder) if kind == PLAIN else _machine(folder, kind, tell)


def stop(name: str, state: Path) -> None:
    """Stop the device and remove its folder; nothing happens when there is none. Raises: ConfigError: not a device."""
    folder = _folder(name, state)
    if not folder.exists():
        return
    _adopt(folder, None)
    sshd.halt(folder)
    if (folder / "card.img").exists():
        Machine(folder).forget()
    shutil.rmtree(folder)


def befall(name: str, state: Path, fault: str) -> None:
    """Let one of ``edgekit.lab.faults`` come over the card of a device that runs. Raises: ConfigError, DeviceError."""
    found = machine(name, state)
    try:
        faults.FAULTS[fault](found)
    except OSError as error:
        raise DeviceError(
            f"{name}: its card does not take that: {error.strerror}", "end its fault: --fault none"
        ) from error


def machine(name: str, state: Path) -> Machine:
    """A device that has a card, to cut its power. Raises: ConfigError."""
    folder = _folder(name, state)
    if not (folder / "card.img").exists():
        raise ConfigError(f"{name} has no card", "give it one when it is first started: --card 4096")
    return Machine(folder)


def _plain(folder: Path) -> Simulated:
    server, keygen = sshd.find(), shutil.which("ssh-keygen")
    if server is None or keygen is None:
        return _local(folder, f"no {'ssh-keygen' if server else 'sshd'} on this machine")
    way = _native_login(folder, str(folder / "sshd.pid"))
    if sshd.process(folder).pid is None:
        way.make_keys(keygen)
        sshd.launch(way, server)
    device = Simulated(folder.name, way.uri, "ssh", folder / "home", folder, f"a real sshd, {server}, on the loopback")
    try:
        with transports.connect(device.uri) as link:
            link.run(["true"]).check()
    except TransportError as error:
        sshd.halt(folder)
        return _local(folder, f"the sshd of this machine does not let this account in ({error.message})")
    return device


def _folder(name: str, state: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a device", "letters, digits, '.', '_' and '-'")
    return state.absolute() / name


def _adopt(folder: Path, kind: Kind | None) -> None:
    """The folder with the marker in it, which says what kind of device it is of.

    Raises: ConfigError when it has content and no marker, is another kind's, or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} is another account's", "a board or a card was root's to start")
    marker = folder / MARKER
    if not marker.exists():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} was not made by edgekit's simulation", "choose another name")
        marker.write_text(kind.words if kind else "")
    elif kind and (was := marker.read_text()) not in ("", kind.words):
        raise ConfigError(f"{folder.name} is a device already: {was}", "stop it first, with --stop")
    for part in ("home", "account"):
        (folder / part).mkdir(exist_ok=True)


def _local(folder: Path, why: str) -> Simulated:
    home = folder / "home"
    return Simulated(folder.name, f"local:{quote(str(home))}", "local", home, folder, f"a folder without SSH: {why}")


def _native_login(folder: Path, pid_file: str) -> Login:
    """$HOME is in the folder: what a login shell reads and programs leave behind stays out of ours."""
    environment = {"EDGEKIT_HOME": str(folder / "home"), "HOME": str(folder / "account")}
    return Login(folder, getpass.getuser(), folder, environment, pid_file)


def _machine(folder: Path, kind: Kind, tell: Callable[[str], None]) -> Simulated:
    base = base_tree.ensure(tell) if kind.board else None
    server = sshd.find()
    found = Machine(folder, server, base, kind.board)
    way = _board_login(folder, kind.board) if kind.board else _native_login(folder, "none")
    if found.process.pid is None:
        found.power_off()  # what was killed may be about to let go of its port and its card
        way.make_keys(shutil.which("ssh-keygen") or "ssh-keygen")
        if kind.board or server is None:
            way.configure(login.free_port(way.port))
        else:
            sshd.configure(way, server)
    if not found.image.exists():
        card.make(found.image, kind.card_mib or CARD_MIB)
    found.boot()
    home = Path("/home/pi/.local/share/edgekit") if kind.board else folder / "home"
    return Simulated(folder.name, way.uri, "ssh", home, folder, _note(found), kind.board is not None)


def _board_login(folder: Path, board: Board) -> Login:
    return Login(folder, "pi", Path("/etc/ssh"), {"QEMU_CPU": board.processor.name})


def _note(found: Machine) -> str:
    what = found.board.note if found.board else f"a real sshd, {found.sshd}, on the loopback"
    size = f"a card of {found.image.stat().st_size >> 20} MiB"
    if found.board is None:
        return f"{what}; {size}"
    limited = f"{found.board.memory_mib} MiB of memory" if found.limit_memory() else "its memory is not limited here"
    return f"{what}; {size}, {limited}"
