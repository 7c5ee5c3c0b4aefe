"""Opening an SSH connection: the way through jump hosts and proxies, the host's key, the login.

Errors of paramiko and of sockets on the way become ConnectError here, with what to look at.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import paramiko

from edgekit.errors import ConfigError, ConnectError
from edgekit.transports import Options, host_keys, ssh_config
from edgekit.transports.host_keys import HostKey
from edgekit.transports.ssh_config import Address, Resolved
from edgekit.transports.ssh_login import log_in
from edgekit.transports.ssh_pulse import Pulse, Wire

WEAK = {
    "ciphers": ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"],
    "macs": ["hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96"],
}
LOGIN_S = 30.0  # a person may have to touch a hardware key
UNSENT = 1 << 14
"""Bytes that the kernel may hold back: with what a slow link has not taken yet, nobody knows how a transfer goes."""

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its tracebacks reach standard error


@dataclass(frozen=True)
class Route:
    """A connection, logged in, what to call its host, and the pulses of it and of all that it goes through."""

    link: paramiko.Transport
    label: str
    pulses: tuple[Pulse, ...]

    @property
    def is_silent(self) -> bool:
        return any(pulse.silent for pulse in self.pulses)


def open_route(uri: str, options: Options, held: ExitStack) -> Route:
    """The way to a host; ``held`` closes it.

    Raises: ConfigError, ConnectError, HostKeyError.
    """
    hosts = ssh_config.route(ssh_config.from_uri(uri), _ask)
    links: list[tuple[paramiko.Transport, Wire]] = []
    for host in hosts:
        links.append(_open(host, links[-1][0] if links else None, options, held))
    return Route(links[-1][0], hosts[-1].label, tuple(Pulse(link, wire, held) for link, wire in links))


def _open(
    host: Resolved, before: paramiko.Transport | None, options: Options, held: ExitStack
) -> tuple[paramiko.Transport, Wire]:
    """Reach one host, know it, and log in."""
    with _connecting(host):
        wire = Wire(_through(before, host, options) if before else _directly(host, options, held))
        held.callback(wire.close)
        link = paramiko.Transport(cast("socket.socket", wire), disabled_algorithms=WEAK)
        link.banner_timeout = link.handshake_timeout = options.connect_timeout_s
        link.auth_timeout = max(options.connect_timeout_s, LOGIN_S)
        held.callback(link.close)
        entries = host_keys.known((*host.user_known_hosts, *host.global_known_hosts), host.known_as)
        security = link.get_security_options()
        security.ciphers = sorted(
            security.ciphers, key=lambda name: "gcm" not in name
        )  # one pass over the bytes, not two
        security.key_types = host_keys.preferred(security.key_types, entries)
        link.start_client()
        shown = link.get_remote_server_key()
        host_keys.verify(HostKey(shown.get_name(), shown.asbytes()), entries, host, options)
        log_in(link, host)
        return link, wire


def _directly(host: Resolved, options: Options, held: ExitStack) -> socket.socket:
    if host.proxy_command:
        return _proxied(host.proxy_command, held)
    wire = socket.create_connection((host.hostname, host.port), timeout=options.connect_timeout_s)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform != "win32":
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return wire


def _proxied(command: str, held: ExitStack) -> socket.socket:
    """A shell's command as the wire, as in OpenSSH. (paramiko.ProxyCommand has no shell, and overlooks its end.)"""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno())
    held.callback(process.wait)
    held.callback(process.kill)
    return ours


def _through(before: paramiko.Transport, host: Resolved, options: Options) -> paramiko.Channel:
    try:
        return before.open_channel(
            "direct-tcpip", (host.hostname, host.port), ("127.0.0.1", 0), timeout=options.connect_timeout_s
        )
    except paramiko.ChannelException as error:
        raise ConnectError(
            f"{host.label}: the jump host cannot reach it: {error.text}", "does it forward TCP?"
        ) from error


@contextmanager
def _connecting(host: Resolved) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        what, hint = next((what, hint) for kind, what, hint in _FAILURES if isinstance(error, kind))
        raise ConnectError(f"{host.label}: {what.format(error)}", hint) from error


_FAILURES: tuple[tuple[type[BaseException], str, str | None], ...] = (
    (socket.gaierror, "no such host", "check the name, or give it a HostName in ~/.ssh/config"),
    (ConnectionRefusedError, "connection refused", "is an SSH server running there, on this port?"),
    (TimeoutError, "no answer", "is the device on, and in a network that this machine reaches?"),
    (EOFError, "the connection was closed before the login", "see the log of the device's sshd"),
    (paramiko.ssh_exception.IncompatiblePeer, "{}", "its SSH server is too old, or allows too little"),
    (paramiko.AuthenticationException, "the login failed: {}", None),
    (paramiko.SSHException, "{}", "is it an SSH server?"),
    (OSError, "{0.strerror}", "is the device in a network that this machine reaches?"),
)


def _ask(address: Address) -> str:
    answer = ssh_config.ask_openssh(address)
    return _ask_paramiko(address) if answer is None else answer


def _ask_paramiko(address: Address) -> str:
    """The same, of paramiko's parser, for hosts without OpenSSH; it knows no ``Include``. Raises: ConfigError."""
    file = address.config or Path("~/.ssh/config").expanduser()
    try:
        config = paramiko.SSHConfig.from_path(str(file)) if file.exists() or address.config else paramiko.SSHConfig()
        found = cast("dict[str, str | list[str]]", config.lookup(address.host))
    except (OSError, paramiko.SSHException) as error:
        raise ConfigError(f"{file}: {error}") from error
    given = {"port": address.port, "user": address.user}
    found.update({key: str(value) for key, value in given.items() if value is not None})
    lists = {key: value if isinstance(value, list) else [value] for key, value in found.items()}
    return "\n".join(f"{key} {value}" for key, values in lists.items() for value in values)
