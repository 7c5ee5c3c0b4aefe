"""How one gets into a device: its keys, its port on the loopback, and OpenSSH's configuration at both ends."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from edgekit.errors import DeviceError
from edgekit.lab.process import read

_SERVER = """\
Port {port}
ListenAddress 127.0.0.1
PidFile "{pid_file}"
HostKey "{keys}/host_key"
AuthorizedKeysFile "{escaped_keys}/client_key.pub"
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
SetEnv {environment}
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
class Login:
    """Who logs in on a device in ``folder``; ``keys`` is where its server finds its keys."""

    folder: Path
    user: str
    keys: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    pid_file: str = "none"

    @property
    def config(self) -> Path:
        return self.folder / "sshd_config"

    @property
    def uri(self) -> str:
        user, config = quote(self.user, safe=""), quote(str(self.folder / "ssh_config"))
        return f"ssh://{user}@127.0.0.1:{self.port}?config={config}"

    @property
    def port(self) -> int:
        """The port that the device has, or had; 0 when it never had one."""
        try:
            return int(read(self.config).split(maxsplit=2)[1])
        except (IndexError, ValueError):
            return 0

    def configure(self, port: int) -> None:
        """Write what both ends need."""
        values = {
            "name": self.folder.name,
            "port": port,
            "user": self.user,
            "pid_file": self.pid_file,
            "keys": self.keys,
            "escaped_keys": _escaped(self.keys),
            "escaped": _escaped(self.folder),
            "environment": " ".join(f'"{key}={value}"' for key, value in self.environment.items()),
        }
        self.config.write_text(_SERVER.format_map(values))
        (self.folder / "ssh_config").write_text(_CLIENT.format_map(values))
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")

    def make_keys(self, keygen: str) -> None:
        """Those that are missing. Raises: DeviceError."""
        for name in ("host_key", "client_key"):
            key, public = self.folder / name, self.folder / f"{name}.pub"
            if not public.exists():  # it comes last
                with tempfile.TemporaryDirectory(prefix=".key-", dir=self.folder) as new:
                    self._make_key(keygen, Path(new, "key"))
                    Path(new, "key").rename(key)
                    Path(new, "key.pub").rename(public)

    def _make_key(self, keygen: str, key: Path) -> None:
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", f"edgekit-{self.folder.name}", "-f", str(key)]
        made = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if made.returncode:
            raise DeviceError(f"{self.folder.name}: ssh-keygen makes no key: {made.stderr.strip()}")


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")  # where OpenSSH knows tokens like %h


def free_port(wanted: int) -> int:
    """That one, or else another one of the loopback. Raises: DeviceError."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # sshd sets it too
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DeviceError("no port is free on the loopback")
