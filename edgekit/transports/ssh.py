"""The SSH transport: plain OpenSSH on the device, paramiko here (its only import in edgekit).

A connection goes where ``ssh`` would go: ~/.ssh/config (see ``ssh_config``), known_hosts (see ``host_keys``), the
agent and key files, ProxyJump and ProxyCommand. Nobody is ever asked for a password or passphrase. The device needs a
POSIX shell and SFTP. Errors of paramiko and of sockets end here.
"""

from __future__ import annotations

import base64
import logging
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import monotonic
from types import TracebackType
from typing import Self, cast

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from edgekit.errors import ConfigError, ConnectError, TransportError, TransportTimeout
from edgekit.transports import Completed, Options, Transport, host_keys, ssh_config
from edgekit.transports.host_keys import HostKey
from edgekit.transports.ssh_config import Address, Resolved

WEAK = {
    "ciphers": ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"],
    "macs": ["hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96"],
}
KEEPALIVE_S = 15
STALL_S = 60.0  # a transfer that does not move for so long has failed
LOGIN_S = 30.0  # a person may have to touch a hardware key
CHUNK = 1 << 17
BLOCK = 1 << 22
LOCKED = "it has a passphrase"

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # else its tracebacks reach standard error


def connect(uri: str, options: Options) -> Transport:
    """The open transport for ``ssh://[user@]host[:port][?config=FILE]`` (FILE in place of ~/.ssh/config).

    Raises: ConfigError, ConnectError, HostKeyError.
    """
    hosts = ssh_config.route(ssh_config.from_uri(uri), _ask)
    with ExitStack() as held:
        link = _open(hosts[0], None, options, held)
        for host in hosts[1:]:
            link = _open(host, link, options, held)
        return SSH(link, hosts[-1].label, held.pop_all())


class SSH:
    """An open connection; commands and transfers go through channels of it. Threads may share it."""

    def __init__(self, link: paramiko.Transport, label: str, held: ExitStack) -> None:
        self._link = link
        self._label = label
        self._held = held
        self._lock = threading.Lock()
        self._sftp: paramiko.SFTPClient | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Completed:
        """Run a program and wait until it has ended and closed its output.

        After a timeout or Ctrl-C it may go on running on the device, without input and output. A program ended by
        signal N has the status 128 + N, one that is not there 127: a shell starts it.
        Raises: TransportTimeout, ConnectError (connection lost), ConfigError (no argument, or one with NUL).
        """
        command = _command(argv)
        until = monotonic() + timeout_s
        with self._reporting(f"running {argv[0]}"):
            channel = self._channel(timeout_s)
            with ThreadPoolExecutor(3) as pool, closing(channel):  # closing comes first, and ends the three
                jobs = [
                    pool.submit(_start, channel, command, stdin),
                    *(pool.submit(_drain, read) for read in (channel.recv, channel.recv_stderr)),
                ]
                done, late = wait(jobs, until - monotonic(), FIRST_EXCEPTION)
                _, stdout, stderr = [job.result() if job in done else b"" for job in jobs]
                if late or not channel.status_event.wait(until - monotonic()):
                    raise TransportTimeout(f"{self._label}: {argv[0]} did not end within {timeout_s:g} s")
        if channel.exit_status < 0:
            raise ConnectError(f"{self._label}: the connection was lost while running {argv[0]}")
        return Completed(tuple(argv), channel.exit_status, stdout, stderr)

    def put(self, source: Path, destination: str, *, sent: Callable[[int], None] = lambda size: None) -> None:
        """Copy a file to the device. Raises: TransportError (no space, no permission, …) that names the file."""
        with self._reporting(f"writing {destination}"), source.open("rb") as local, self._files() as sftp:
            left = source.stat().st_size
            remote = sftp.open(destination, "wb")  # no `with`: after an error its end would wait for an answer
            while chunk := local.read(CHUNK):
                left -= len(chunk)
                remote.set_pipelined(left > 0)  # the last write waits for the answers to all: a full disk is heard of
                remote.write(chunk)
                sent(len(chunk))
            remote.close()
            if left:
                raise TransportError(f"{self._label}: {source} changed while it was sent")

    def get(self, source: str, destination: Path) -> None:
        """Copy a file from the device. Raises: TransportError (no such file, …) that names the file."""
        with self._reporting(f"reading {source}"), destination.open("wb") as local, self._files() as sftp:
            remote = sftp.open(source, "rb")
            size = remote.stat().st_size or 0
            for start in range(0, size, BLOCK):  # block by block: memory stays bounded, and so do requests in flight
                local.writelines(remote.readv([(start, min(BLOCK, size - start))]))
            remote.close()
            if local.tell() != size:
                raise TransportError(f"{self._label}: {source} changed while it was read")

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _channel(self, timeout_s: float) -> paramiko.Channel:
        try:
            return self._link.open_session(timeout=timeout_s)
        except paramiko.SSHException as error:
            if str(error).startswith("Timeout"):  # paramiko has no class for it
                raise TimeoutError(str(error)) from error
            raise

    @contextmanager
    def _files(self) -> Iterator[paramiko.SFTPClient]:
        """The SFTP session, for one transfer at a time; a transfer that failed leaves answers unread, so it ends it."""
        with self._lock:
            sftp, self._sftp = self._sftp or self._open_sftp(), None
            try:
                yield sftp
            except BaseException:
                sftp.close()
                raise
            self._sftp = sftp

    def _open_sftp(self) -> paramiko.SFTPClient:
        channel = self._channel(STALL_S)
        channel.settimeout(STALL_S)
        alarm = threading.Timer(STALL_S, channel.close)  # paramiko waits for this answer without end
        alarm.start()
        try:
            channel.invoke_subsystem("sftp")
            return paramiko.SFTPClient(channel)
        except paramiko.SSHException as error:
            if self._is_lost():
                raise
            hint = "install it there (openssh-sftp-server), with `Subsystem sftp internal-sftp` in sshd_config"
            raise TransportError(f"{self._label}: the device offers no SFTP", hint) from error
        finally:
            alarm.cancel()

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise TransportTimeout(f"{self._label}: no answer while {what}") from error
        except (EOFError, OSError, paramiko.SSHException) as error:
            if self._is_lost():
                raise ConnectError(f"{self._label}: the connection was lost while {what}") from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            own = f" ({name})" if (name := getattr(error, "filename", None)) else ""  # a file of the host
            folder = PurePosixPath(what.partition(" ")[2]).parent
            hint = f"no space left, perhaps: df -h {shlex.quote(str(folder))}" if reason == "Failure" else None
            raise TransportError(f"{self._label}: failed while {what}: {reason}{own}", hint) from error

    def _is_lost(self) -> bool:
        self._link.join(0.1)  # it closes its channels a moment before it ends
        return not self._link.is_alive()


def _command(argv: Sequence[str]) -> bytes:
    """One POSIX shell command that means exactly these arguments, whatever the login shell is."""
    line = shlex.join(argv)
    if not argv or "\0" in line:
        raise ConfigError("a command for a device needs a program, and no argument may hold NUL")
    try:
        # `exit $?` keeps the inner shell from being replaced by the program: it turns a signal into a status.
        return shlex.join(["sh", "-c", f"{line}; exit $?"]).encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigError(f"an argument for {argv[0]} is no text: {error}") from error


def _start(channel: paramiko.Channel, command: bytes, stdin: bytes) -> bytes:
    channel.exec_command(command)
    with suppress(OSError):  # the program need not read it all
        for start in range(0, len(stdin), CHUNK):
            channel.sendall(stdin[start : start + CHUNK])
        channel.shutdown_write()
    return b""


def _drain(read: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: read(CHUNK), b""))


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


def _open(host: Resolved, before: paramiko.Transport | None, options: Options, held: ExitStack) -> paramiko.Transport:
    """Reach one host, know it, and log in."""
    with _connecting(host):
        wire = _through(before, host, options) if before else _directly(host, options, held)
        held.callback(wire.close)
        link = paramiko.Transport(wire, disabled_algorithms=WEAK)
        link.banner_timeout = link.handshake_timeout = options.connect_timeout_s
        link.auth_timeout = max(options.connect_timeout_s, LOGIN_S)
        held.callback(link.close)
        entries = host_keys.known((*host.user_known_hosts, *host.global_known_hosts), host.known_as)
        security = link.get_security_options()
        security.key_types = host_keys.preferred(security.key_types, entries)
        link.start_client()
        shown = link.get_remote_server_key()
        host_keys.verify(HostKey(shown.get_name(), shown.asbytes()), entries, host, options)
        _log_in(link, host)
        link.set_keepalive(KEEPALIVE_S)
        return link


def _directly(host: Resolved, options: Options, held: ExitStack) -> socket.socket:
    if host.proxy_command:
        return _proxied(host.proxy_command, held)
    wire = socket.create_connection((host.hostname, host.port), timeout=options.connect_timeout_s)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(
        socket, "TCP_USER_TIMEOUT"
    ):  # paramiko does not look whether its keepalives are answered; the kernel does
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
    return wire


def _proxied(command: str, held: ExitStack) -> socket.socket:
    """A shell's command as the wire, as in OpenSSH. (paramiko.ProxyCommand has no shell, and overlooks its end.)"""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno())
    held.callback(process.wait)
    held.callback(process.terminate)
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


def _log_in(link: paramiko.Transport, host: Resolved) -> None:
    """With the first key that the host takes. Raises: ConnectError that says why none did."""
    allowed = _first_answer(link, host.user)
    if "publickey" not in allowed:
        if not allowed:
            return
        reason = f"{host.label}: it takes no keys, only {', '.join(allowed)}"
        raise ConnectError(reason, "set `PubkeyAuthentication yes` in its sshd_config")
    unusable: dict[Path, str] = {}
    with ExitStack() as held:
        if any(_takes(link, host, key) for key in _keys(host, _agent_keys(host, held), unusable)):
            return
    locked = [path for path, why in unusable.items() if why == LOCKED]
    reasons = "".join(f"; {path}: {why}" for path, why in unusable.items())
    hint = f"unlock it: ssh-add {locked[0]}" if locked else "put a key of yours there with ssh-copy-id"
    raise ConnectError(f"{host.label}: login refused, no key fits{reasons}", hint)


def _first_answer(link: paramiko.Transport, user: str) -> list[str]:
    """How the server lets people in; nothing when it has just done so. (OpenSSH asks this first, too.)"""
    try:
        return link.auth_none(user)
    except paramiko.BadAuthenticationType as error:
        return error.allowed_types


def _takes(link: paramiko.Transport, host: Resolved, key: paramiko.PKey) -> bool:
    try:
        further = link.auth_publickey(host.user, key)
    except paramiko.AuthenticationException as error:
        if link.is_active():
            return False
        hint = f"name the one that fits, for {host.host} in ~/.ssh/config: IdentityFile, and IdentitiesOnly yes"
        raise ConnectError(f"{host.label}: login refused, too many keys were tried", hint) from error
    if further:
        raise ConnectError(f"{host.label}: it asks for {', '.join(further)} after the key; edgekit has keys only")
    return True


def _keys(host: Resolved, agent: Sequence[AgentKey], unusable: dict[Path, str]) -> Iterator[paramiko.PKey]:
    """In OpenSSH's order: those of the agent that are configured, its others, files. ``unusable`` hears of the rest."""
    named = [(_public_blob(path), path) for path in host.identity_files]
    configured = {blob for blob, _ in named}
    yield from (key for key in agent if key.blob in configured)
    if not host.identities_only:
        yield from (key for key in agent if key.blob not in configured)
    in_agent = {key.blob for key in agent}
    for path in [path for blob, path in named if blob not in in_agent]:
        try:
            key = paramiko.PKey.from_path(path)
        except FileNotFoundError:
            continue
        except TypeError:  # so the library below paramiko says that a passphrase is missing
            unusable[path] = LOCKED
        except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
            unusable[path] = f"cannot be read ({error})"
        else:
            yield key


def _agent_keys(host: Resolved, held: ExitStack) -> tuple[AgentKey, ...]:
    """The keys of the host's agent, which answers until ``held`` closes; none when it is gone."""
    if sys.platform == "win32":
        return paramiko.Agent().get_keys()
    agent, wire = AgentSSH(), held.enter_context(socket.socket(socket.AF_UNIX))
    with suppress(OSError, paramiko.SSHException):
        wire.connect(host.agent_socket or "")
        agent._connect(wire)  # type: ignore[attr-defined]  # paramiko's public Agent knows SSH_AUTH_SOCK only
    return agent.get_keys()


def _public_blob(path: Path) -> bytes | None:
    """The public half of an identity: of the .pub file beside it, or it is one itself and an agent has the rest."""
    for file in (path.with_name(f"{path.name}.pub"), path):
        with suppress(OSError, ValueError, IndexError):
            return base64.b64decode(file.read_text("ascii").split(maxsplit=2)[1], validate=True)
    return None
