"""A throw-away device on this machine: a real sshd of its own where there is one, else a folder.

The device shows the whole way (host keys, login, SFTP, the runtime's home), not other hardware: it runs what this
machine runs, as the caller, with a $HOME of its own. It listens on the loopback only and takes one key, which lies in
its folder. Nothing of the caller's ~/.ssh is read or written. Programs left running on it outlive it.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edgekit import transports
from edgekit.errors import ConfigError, DeviceError, TransportError

MARKER = ".edgekit-simulated"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
ATTEMPTS = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin")

_SERVER = """\
Port {port}
ListenAddress 127.0.0.1
PidFile "{folder}/sshd.pid"
HostKey "{folder}/host_key"
AuthorizedKeysFile "{escaped}/client_key.pub"
AllowUsers {user}
PermitRootLogin prohibit-password
AuthenticationMethods publickey
UsePAM no
StrictModes no
UseDNS no
PrintMotd no
X11Forwarding no
AllowAgentForwarding no
PermitTunnel no
AllowTcpForwarding local
Subsystem sftp internal-sftp
SetEnv "EDGEKIT_HOME={home}" "HOME={account}"
"""
_CLIENT = """\
Host {name} 127.0.0.1
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile "{escaped}/client_key"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{escaped}/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


@dataclass(frozen=True)
class Simulated:
    """A device that runs. ``note`` says which transport leads to it, and why; ``home`` is its EDGEKIT_HOME.

    ``folder`` holds all of it. With ssh: ``ssh_config`` (for `ssh -F`), ``known_hosts``, ``client_key``, ``host_key``.
    """

    name: str
    uri: str
    kind: str
    home: Path
    folder: Path
    note: str


def start(name: str, state: Path) -> Simulated:
    """Start the device, or find it running. Its keys, and its port if that is free, outlive a restart of the machine.

    Raises: ConfigError (a name that is no file name; a folder of somebody else), DeviceError (sshd does not start).
    """
    folder = _folder(name, state)
    _adopt(folder)
    sshd, keygen = find_sshd(), shutil.which("ssh-keygen")
    if sshd is None or keygen is None:
        return _local(folder, f"no {'ssh-keygen' if sshd else 'sshd'} on this machine")
    if _running(folder) is None:
        _make_keys(folder, keygen)
        _launch(folder, sshd)
    device = Simulated(name, _uri(folder), "ssh", folder / "home", folder, f"a real sshd, {sshd}, on the loopback")
    try:
        with transports.connect(device.uri) as link:
            link.run(["true"]).check()
    except TransportError as error:
        _halt(folder)
        return _local(folder, f"the sshd of this machine does not let this account in ({error.message})")
    return device


def stop(name: str, state: Path) -> None:
    """Stop the device and remove its folder; nothing happens when there is none. Raises: ConfigError: not a device."""
    folder = _folder(name, state)
    if not folder.exists():
        return
    _adopt(folder)
    _halt(folder)
    shutil.rmtree(folder)


def find_sshd() -> Path | None:
    """The OpenSSH server of this machine, by its absolute path, which it insists on."""
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))
    return Path(found).absolute() if found else None


def _folder(name: str, state: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a device", "letters, digits, '.', '_' and '-'")
    return state.absolute() / name


def _adopt(folder: Path) -> None:
    """The folder with the marker in it. Raises: ConfigError when it has content and no marker, or cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    if not (folder / MARKER).exists():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} was not made by edgekit's simulation", "choose another name")
        (folder / MARKER).touch()
    for part in ("home", "account"):
        (folder / part).mkdir(exist_ok=True)


def _local(folder: Path, why: str) -> Simulated:
    home = folder / "home"
    return Simulated(folder.name, f"local:{quote(str(home))}", "local", home, folder, f"a folder without SSH: {why}")


def _uri(folder: Path) -> str:
    user, config = quote(getpass.getuser(), safe=""), quote(str(folder / "ssh_config"))
    return f"ssh://{user}@127.0.0.1:{_port(folder)}?config={config}"


def _port(folder: Path) -> int:
    """The port that the device has, or had; 0 when it never had one."""
    try:
        return int((folder / "sshd_config").read_text().split(maxsplit=2)[1])
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def _make_keys(folder: Path, keygen: str) -> None:
    for name in ("host_key", "client_key"):
        key, public = folder / name, folder / f"{name}.pub"
        if not public.exists():  # ssh-keygen writes it last
            key.unlink(missing_ok=True)
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", f"edgekit-{folder.name}", "-f", str(key)]
            made = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if made.returncode:
                raise DeviceError(f"{folder.name}: ssh-keygen makes no key: {made.stderr.strip()}")


def _launch(folder: Path, sshd: Path) -> None:
    """Start sshd as a daemon. Raises: DeviceError."""
    if os.geteuid() == 0 and Path("/run").is_dir():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # an init script's work, and nobody's in a container
    for _ in range(ATTEMPTS):
        _configure(folder, _free_port(_port(folder)), sshd)
        try:
            if _listens(folder, sshd):
                return
        except BaseException:
            _wait(lambda: _running(folder) is not None, 1.0)  # its pid file may be on the way
            _halt(folder)
            raise
    raise DeviceError(f"{folder.name}: every port was taken", "try again")


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sshd sets it too
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DeviceError("no port is free on the loopback")


def _configure(folder: Path, port: int, sshd: Path) -> None:
    values = {
        "name": folder.name,
        "port": port,
        "user": getpass.getuser(),
        "folder": folder,
        "escaped": str(folder).replace("%", "%%"),  # where OpenSSH knows tokens like %h
        "home": folder / "home",
        "account": folder / "account",  # $HOME: what a login shell reads and programs leave behind stays out of ours
    }
    server = folder / "sshd_config"
    server.write_text(_SERVER.format_map(values))
    (folder / "ssh_config").write_text(_CLIENT.format_map(values))
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    effective = subprocess.run([sshd, "-T", "-f", server], capture_output=True, text=True, check=False)
    if effective.returncode:
        raise DeviceError(f"{folder.name}: sshd does not accept its configuration: {effective.stderr.strip()}")
    if "persourcepenalt" in effective.stdout.lower():  # OpenSSH 9.8 and later: all sources are one here
        server.write_text(_SERVER.format_map(values) + "PerSourcePenalties no\n")


def _listens(folder: Path, sshd: Path) -> bool:
    """Start it and wait until it listens; False when the port was taken meanwhile. Raises: DeviceError."""
    log = folder / "sshd.log"
    log.unlink(missing_ok=True)
    (folder / "sshd.pid").unlink(missing_ok=True)
    command = [str(sshd), "-f", str(folder / "sshd_config"), "-E", str(log)]  # it makes itself a daemon
    started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    taken = "Cannot bind any address"
    if not started.returncode:
        _wait(lambda: _running(folder) is not None or taken in _read(log), START_TIMEOUT_S)
    if _running(folder) is None and taken not in _read(log):
        reason = _read(log).strip().rpartition("\n")[2]
        raise DeviceError(f"{folder.name}: sshd does not start: {reason or 'no answer'}")
    return _running(folder) is not None


def _running(folder: Path) -> int | None:
    """The process of the device's sshd; a number that by now belongs to another process does not count."""
    try:
        pid = int(_read(folder / "sshd.pid"))
    except ValueError:
        return None
    return pid if str(folder / "sshd_config") in _command_of(pid) else None


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")
    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _halt(folder: Path) -> None:
    """End the device's sshd, if it runs: asked first, then killed."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        pid = _running(folder)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, ending)
            _wait(lambda: _running(folder) is None, STOP_TIMEOUT_S)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
