"""The local transport: this machine as a device, a folder as its ``EDGEKIT_HOME``.

For trials, tests and machines that serve what they build. It isolates nothing: commands run as the caller.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import unquote, urlsplit

from edgekit.errors import ConfigError, TransportError, TransportTimeout
from edgekit.transports import Completed, Options, Transport
from edgekit.transports.feed import MOST_SAID, Feed
from edgekit.transports.talk import Talk

CHUNK = 1 << 20
LOOK_S = 0.5
"""So often is looked whether a program that says nothing has any time left, and whether anybody waits for it."""
_UNSTARTED: dict[type[OSError], int] = {FileNotFoundError: 127, PermissionError: 126}  # as a shell on a device has it


def connect(uri: str, options: Options) -> Transport:
    """The transport for ``local:/path/to/folder``, which is made when it is not there. Raises: ConfigError."""
    parts = urlsplit(uri)
    if parts.netloc or parts.query or parts.fragment or not parts.path:
        raise ConfigError(f"{uri!r} is no local device", "write local:/path/to/folder")
    home = Path(unquote(parts.path)).expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{uri}: the folder cannot be made: {error.strerror}") from error
    return Local(home)


class Local:
    """Commands run in the device's home; a path that is not absolute starts there."""

    def __init__(self, home: Path) -> None:
        self._home, self._closed = home, threading.Event()

    def run(self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float = 120.0) -> Completed:
        """Run a program and wait until it has ended and closed its output; late, its whole process group is killed.

        A program ended by signal N has the status 128 + N, one that is not there 127.
        Raises: TransportTimeout, TransportError, ConfigError (no argument, or one with NUL).
        """
        return self._run(argv, Feed(stdin, timeout_s))

    def talk(self, argv: Sequence[str]) -> Talk:
        """Start one program, to which more is said once it has answered. It raises what ``run`` does."""
        return Talk(lambda feed: self._run(argv, feed))

    def _run(self, argv: Sequence[str], feed: Feed) -> Completed:
        if not argv:
            raise ConfigError("a command for a device needs a program")
        try:
            return self._completed(argv, feed)
        except ValueError as error:
            raise ConfigError(f"an argument for {argv[0]!r} cannot be given: {error}") from error
        except OSError as error:
            if type(error) in _UNSTARTED and str(error.filename) != str(self._home):
                reason = f"{argv[0]}: {error.strerror}\n"
                return Completed(tuple(argv), _UNSTARTED[type(error)], b"", reason.encode(errors="replace"))
            raise TransportError(f"{self._home}: {argv[0]} cannot be run: {error.strerror}") from error

    def put(self, source: Path, destination: str, *, sent: Callable[[int], None] = lambda size: None) -> None:
        """Copy a file into the device. Raises: TransportError (no space, no permission, …)."""
        with self._reporting(f"writing {destination}"):
            _copy(source, self._home / destination, sent)

    def get(self, source: str, destination: Path) -> None:
        """Copy a file out of the device. Raises: TransportError (no such file, …)."""
        with self._reporting(f"reading {source}"):
            _copy(self._home / source, destination, lambda size: None)

    def close(self) -> None:
        """What is under way in another thread is killed, and raises TransportError there."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _completed(self, argv: Sequence[str], feed: Feed) -> Completed:
        with (
            ThreadPoolExecutor(1) as pool,
            subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "EDGEKIT_HOME": str(self._home)},
                cwd=self._home,
                start_new_session=True,
            ) as process,
        ):
            try:
                feeding, process.stdin = pool.submit(_feed, process.stdin, feed), None
                stdout, stderr = _output(process, feed, self._closed)
                feeding.result()
            except BaseException as error:
                late = f"{self._home}: {argv[0]} did not end within {feed.timeout_s:g} s"
                feed.ended()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, (TimeoutError, subprocess.TimeoutExpired)):
                    raise TransportTimeout(late) from error
                if isinstance(error, InterruptedError):
                    raise TransportError(f"{self._home}: nobody waits for {argv[0]} any longer") from error
                raise
        status = process.returncode
        return Completed(tuple(argv), 128 - status if status < 0 else status, stdout, stderr)

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransportError(f"{self._home}: failed while {what}: {error.strerror} ({error.filename})") from error


def _feed(stdin: IO[bytes] | None, feed: Feed) -> None:
    """All that the program takes."""
    assert stdin
    with suppress(BrokenPipeError), stdin:
        for piece in feed:
            stdin.write(piece)
            stdin.flush()


def _output(process: subprocess.Popen[bytes], feed: Feed, closed: threading.Event) -> tuple[bytes, bytes]:
    """What the program prints until it ends. Raises: TimeoutError, subprocess.TimeoutExpired, InterruptedError."""
    assert process.stdout
    assert process.stderr
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as ears:
        ears.register(process.stdout, selectors.EVENT_READ, (out, feed.answered, feed.ended))
        ears.register(process.stderr, selectors.EVENT_READ, (err, lambda data: None, lambda: None))  # earns no time
        while ears.get_map():
            for key, _ in ears.select(min(feed.left_s, LOOK_S)):
                said, heard, ended = key.data
                if data := os.read(key.fd, CHUNK):
                    said += data
                    heard(data)
                    if len(said) > MOST_SAID:
                        raise TransportError(f"a program says more than {MOST_SAID >> 20} MiB")
                else:
                    ears.unregister(key.fileobj)
                    ended()
            if not feed.left_s:
                raise TimeoutError
            if closed.is_set():
                raise InterruptedError
    process.wait(feed.left_s)
    return bytes(out), bytes(err)


def _copy(source: Path, destination: Path, sent: Callable[[int], None]) -> None:
    with source.open("rb") as reader, destination.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            sent(len(chunk))
