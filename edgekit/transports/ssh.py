"""The SSH transport: plain OpenSSH on the device, paramiko here (imported by the ``ssh*`` files only).

A connection goes where ``ssh`` would go: ~/.ssh/config (see ``ssh_config``), known_hosts (see ``host_keys``), the
agent and key files, ProxyJump and ProxyCommand. Nobody is ever asked for a password or passphrase. The device needs a
POSIX shell and SFTP. Errors of paramiko and of sockets end here.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import monotonic, sleep
from types import TracebackType
from typing import BinaryIO, Self

import paramiko

from edgekit.errors import ConfigError, ConnectError, TransportError, TransportTimeout
from edgekit.transports import Completed, Options, Transport
from edgekit.transports.aside import aside
from edgekit.transports.ssh_open import STALL_S, open_route

CHUNK = 1 << 17
BUSY_S = 5.0
"""As long is waited for a session that is free."""
BLOCK = 1 << 22


def connect(uri: str, options: Options) -> Transport:
    """The open transport for ``ssh://[user@]host[:port][?config=FILE]`` (FILE in place of ~/.ssh/config).

    Raises: ConfigError, ConnectError, HostKeyError.
    """
    with ExitStack() as held:
        link, label = open_route(uri, options, held)
        return SSH(link, label, held.pop_all())


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
            channel = aside(lambda: self._channel(timeout_s))
            with ThreadPoolExecutor(3) as pool, _closing(channel):  # closing comes first, and ends the three
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
        full = f"no space left, perhaps: df -h {shlex.quote(str(PurePosixPath(destination).parent))}"
        with self._reporting(f"writing {destination}", full), source.open("rb") as local, self._files() as sftp:
            if aside(lambda: _send(local, sftp, destination, sent)):
                raise TransportError(f"{self._label}: {source} changed while it was sent")

    def get(self, source: str, destination: Path) -> None:
        """Copy a file from the device. Raises: TransportError (no such file, …) that names the file."""
        with self._reporting(f"reading {source}"), destination.open("wb") as local, self._files() as sftp:
            if aside(lambda: _fetch(sftp, source, local)):
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
        """Sshd has ten sessions for a connection (MaxSessions), and notices a moment late that one has ended."""
        until = monotonic() + min(timeout_s, BUSY_S)
        while True:
            try:
                return self._link.open_session(timeout=timeout_s)
            except paramiko.ChannelException:
                if monotonic() > until:
                    raise
                sleep(0.05)
            except paramiko.SSHException as error:
                if str(error).startswith("Timeout"):  # paramiko has no class for it
                    raise TimeoutError(str(error)) from error
                raise

    @contextmanager
    def _files(self) -> Iterator[paramiko.SFTPClient]:
        """The SFTP session, for one transfer at a time; a transfer that failed leaves answers unread, so it ends it."""
        with self._lock:
            sftp, self._sftp = self._sftp or aside(self._open_sftp), None
            try:
                yield sftp
            except BaseException:
                aside(sftp.close)
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
    def _reporting(self, what: str, on_failure: str | None = None) -> Iterator[None]:
        """Foreign errors become ours. ``on_failure``: a hint for "Failure", all that SFTP says for want of a code."""
        try:
            yield
        except TimeoutError as error:
            raise TransportTimeout(f"{self._label}: no answer while {what}") from error
        except (EOFError, OSError, paramiko.SSHException) as error:
            if self._is_lost():
                raise ConnectError(f"{self._label}: the connection was lost while {what}") from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            own = f" ({name})" if (name := getattr(error, "filename", None)) else ""  # a file of the host
            hint = on_failure if reason == "Failure" else None
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
        # The shell stays, and turns a signal into a status. It reads what the program did not: if the device closed
        # the channel first, our end of input could follow paramiko's answer to that, and sshd would cut the connection.
        return shlex.join(["sh", "-c", f"{line}; s=$?; cat >/dev/null; exit $s"]).encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigError(f"an argument for {argv[0]} is no text: {error}") from error


@contextmanager
def _closing(channel: paramiko.Channel) -> Iterator[None]:
    try:
        yield
    finally:
        aside(channel.close)


def _send(local: BinaryIO, sftp: paramiko.SFTPClient, destination: str, sent: Callable[[int], None]) -> int:
    """Copy an open file to the device; how many bytes fewer came than there had been."""
    left = os.fstat(local.fileno()).st_size
    remote = sftp.open(destination, "wb")  # no `with`: after an error its end would wait for an answer
    while chunk := local.read(CHUNK):
        left -= len(chunk)
        remote.set_pipelined(left > 0)  # the last write waits for the answers to all: a full disk is heard of
        remote.write(chunk)
        sent(len(chunk))
    remote.close()
    return left


def _fetch(sftp: paramiko.SFTPClient, source: str, local: BinaryIO) -> int:
    """Copy a file from the device into an open one; how many bytes fewer came than there had been."""
    remote = sftp.open(source, "rb")
    size = remote.stat().st_size or 0
    for start in range(0, size, BLOCK):  # block by block: memory stays bounded, and so do requests in flight
        local.writelines(remote.readv([(start, min(BLOCK, size - start))]))
    remote.close()
    return size - local.tell()


def _start(channel: paramiko.Channel, command: bytes, stdin: bytes) -> bytes:
    channel.exec_command(command)
    with suppress(OSError):  # the connection may end; `run` then says so
        for start in range(0, len(stdin), CHUNK):
            channel.sendall(stdin[start : start + CHUNK])
        channel.shutdown_write()
    return b""


def _drain(read: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: read(CHUNK), b""))
