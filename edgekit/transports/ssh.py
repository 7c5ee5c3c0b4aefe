"""The SSH transport: plain OpenSSH on the device, paramiko here (imported by the ``ssh*`` files only).

A connection goes where ``ssh`` would go: ~/.ssh/config (see ``ssh_config``), known_hosts (see ``host_keys``), the
agent and key files, ProxyJump and ProxyCommand. Nobody is ever asked for a password or passphrase. The device needs a
POSIX shell and SFTP. Errors of paramiko and of sockets end here.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from time import monotonic, sleep
from types import TracebackType
from typing import BinaryIO, Self

import paramiko

from edgekit.errors import ConfigError, ConnectError, TransportError, TransportTimeout
from edgekit.transports import Completed, Options, Transport, ssh_pulse
from edgekit.transports.aside import aside
from edgekit.transports.feed import MOST_SAID, Feed
from edgekit.transports.ssh_open import Route, open_route
from edgekit.transports.talk import Talk

CHUNK = 1 << 17
BUSY_S = 5.0
"""As long is waited for a session that is free."""
BLOCK = 1 << 22
LEAST_ON_THE_WAY = 3 << 16
PACE = 16e6
"""Bytes a second that input goes over at, at most, when the link has a latency."""
LOOK_S = 0.5
"""So often is looked whether a program takes what is on its way to it."""


def connect(uri: str, options: Options) -> Transport:
    """The open transport for ``ssh://[user@]host[:port][?config=FILE]`` (FILE in place of ~/.ssh/config).

    Raises: ConfigError, ConnectError, HostKeyError.
    """
    with ExitStack() as held:
        return SSH(open_route(uri, options, held), held.pop_all())


class SSH:
    """An open connection; commands and transfers go through channels of it. Threads may share it."""

    def __init__(self, route: Route, held: ExitStack) -> None:
        self._route = route
        self._link = route.link
        self._label = route.label
        self._held = held
        self._lock = threading.Lock()
        self._sftp: paramiko.SFTPClient | None = None
        self._round_trip_s = 1.0

    def run(self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float = 120.0) -> Completed:
        """Run a program and wait until it has ended and closed its output.

        After a timeout or Ctrl-C it may go on running on the device, without input and output. A program ended by
        signal N has the status 128 + N, one that is not there 127: a shell starts it.
        Raises: TransportTimeout, ConnectError (connection lost), ConfigError (no argument, or one with NUL),
        TransportError (endless output).
        """
        return self._run(argv, Feed(stdin, timeout_s))

    def talk(self, argv: Sequence[str]) -> Talk:
        """Start one program, to which more is said once it has answered. It raises what ``run`` does."""
        return Talk(lambda feed: self._run(argv, feed))

    def _run(self, argv: Sequence[str], feed: Feed) -> Completed:
        command = _command(argv)
        with self._reporting(f"running {argv[0]}"):
            channel = aside(lambda: self._channel(min(feed.timeout_s, ssh_pulse.SILENCE_S)))
            with ThreadPoolExecutor(3) as pool, _closing(channel):  # closing comes first, and ends the three
                jobs = [
                    pool.submit(self._start, channel, command, feed),
                    pool.submit(_listen, channel, feed),
                    pool.submit(_drain, channel.recv_stderr, lambda data: None),  # a log earns no time
                ]
                late = _late(jobs, feed, channel)
                _, stdout, stderr = [b"" if job in late else job.result() for job in jobs]
                if late or not channel.status_event.wait(feed.left_s):
                    raise TransportTimeout(f"{self._label}: {argv[0]} did not end within {feed.timeout_s:g} s")
        if channel.exit_status < 0:
            raise self._lost(f"running {argv[0]}")
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
                with self._measuring():
                    return self._link.open_session(timeout=timeout_s)
            except paramiko.SSHException as error:
                if str(error).startswith("Timeout"):  # paramiko has no class for it
                    raise TimeoutError(str(error)) from error
                if not _is_refused(error) or monotonic() > until:
                    raise
                sleep(0.05)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """One question and its answer: the fastest of them shows what the link takes for a round trip."""
        asked = monotonic()
        yield
        self._round_trip_s = min(self._round_trip_s, monotonic() - asked)

    def _start(self, channel: paramiko.Channel, command: bytes, feed: Feed) -> bytes:
        with self._measuring():
            channel.exec_command(command)
        self._hold_back(channel)
        for piece in feed:
            try:
                channel.sendall(piece)
            except OSError:  # the connection may end; `run` then says so
                return b""
        with suppress(OSError):
            channel.shutdown_write()
        return b""

    def _hold_back(self, channel: paramiko.Channel) -> None:
        """Have no more on the way than keeps a link busy: what lies in sshd when it ends is lost, and goes over again.

        Sshd allows 2 MiB, most of which waits for the program. It grants more by what the program has read, once that
        is over 96 KiB; other servers may wait for half of what they allow.
        """
        if "OpenSSH" in self._link.remote_version:
            on_the_way = max(LEAST_ON_THE_WAY, int(self._round_trip_s * PACE))
            channel.out_window_size = min(channel.out_window_size, on_the_way)

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
        channel = self._channel(ssh_pulse.SILENCE_S)
        channel.settimeout(ssh_pulse.SILENCE_S)
        alarm = threading.Timer(ssh_pulse.SILENCE_S, channel.close)  # paramiko waits for this answer without end
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
                raise self._lost(what) from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            own = f" ({name})" if (name := getattr(error, "filename", None)) else ""  # a file of the host
            hint = on_failure if reason == "Failure" else None
            raise TransportError(f"{self._label}: failed while {what}: {reason}{own}", hint) from error

    def _lost(self, what: str) -> TransportError:
        if self._route.is_silent:
            return TransportTimeout(f"{self._label}: no answer for {ssh_pulse.SILENCE_S:g} s while {what}")
        return ConnectError(f"{self._label}: the connection was lost while {what}")

    def _is_lost(self) -> bool:
        self._link.join(0.1)  # it closes its channels a moment before it ends
        return not self._link.is_alive()


def _command(argv: Sequence[str]) -> bytes:
    """One POSIX shell command that means exactly these arguments, whatever the login shell is."""
    line = shlex.join(argv)
    if not argv or "\0" in line:
        raise ConfigError("a command for a device needs a program, and no argument may hold NUL")
    try:
        # The shell stays, and turns a signal into a status. It ends the output, and reads what the program did not: if
        # the device closed the channel first, our end of input could follow paramiko's answer to that, and sshd would
        # cut the connection.
        return shlex.join(["sh", "-c", f"{line}; s=$?; exec >/dev/null 2>&1; cat; exit $s"]).encode(
            errors="surrogateescape"
        )
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


def _listen(channel: paramiko.Channel, feed: Feed) -> bytes:
    try:
        return _drain(channel.recv, feed.answered)
    finally:
        feed.ended()


def _drain(read: Callable[[int], bytes], heard: Callable[[bytes], None]) -> bytes:
    said = bytearray()
    for data in iter(lambda: read(CHUNK), b""):
        said += data
        if len(said) > MOST_SAID:
            raise OSError(f"it says more than {MOST_SAID >> 20} MiB")
        heard(data)
    return bytes(said)


def _is_refused(error: paramiko.SSHException) -> bool:
    """Whether sshd gave no session. (Of two threads that get none, one may be told so, and the other nothing.)"""
    return isinstance(error, paramiko.ChannelException) or str(error).startswith("Unable to open channel")


def _late(jobs: Sequence[Future[bytes]], feed: Feed, channel: paramiko.Channel) -> set[Future[bytes]]:
    """Those that are not done when one has failed, or when the time is up."""
    while True:
        done, late = wait(jobs, min(feed.left_s, LOOK_S), FIRST_EXCEPTION)
        feed.allows(channel.out_window_size)
        if not late or not feed.left_s or any(job.exception() for job in done):
            return late
