"""How the host reaches a device: run a command, put a file, get a file.

A transport is opened by its URI (``ssh://user@host:port``, ``local:/path``); the scheme is the name of an
entry point in the group ``edgekit.transports``. A transport knows nothing of bundles or releases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast

from edgekit import plugins
from edgekit.errors import CommandError, ConfigError

if TYPE_CHECKING:
    from edgekit.transports.talk import Talk

GROUP = "edgekit.transports"


@dataclass(frozen=True)
class Completed:
    """What a command on the device left: its exit status and all it printed (bytes, undecoded)."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    def check(self) -> Completed:
        """Itself when the status is 0. Raises: CommandError with the last line of standard error."""
        if self.status:
            last = self.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise CommandError(f"{self.argv[0]} ended with status {self.status}: {last or 'no message'}")
        return self


class Transport(Protocol):
    """One open way to one device. Paths on the device are POSIX strings.

    Every method raises a TransportError (ConnectError, TransportTimeout, …) when the way fails; ``run`` does not
    raise for a command that ends with another status than 0.
    """

    def run(self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float = 120.0) -> Completed:
        """Run one program with these very arguments (no shell sees them unquoted).

        Input in pieces goes over as it is made, for as long as the device takes it, until the program has said
        something: then it needs no more. The time allowed is the program's: it begins when the last piece has gone, and
        what a slow link takes for the output is not counted.
        """

    def talk(self, argv: Sequence[str]) -> Talk:
        """Start one program, to which more is said once it has answered."""

    def put(self, source: Path, destination: str, *, sent: Callable[[int], None] = ...) -> None:
        """Copy a file of the host to the device, replacing what is there; ``sent`` hears of each chunk's bytes.

        The folder must exist. The file may be incomplete after an error: who needs more verifies digests.
        """

    def get(self, source: str, destination: Path) -> None:
        """Copy a file of the device to the host, replacing what is there."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Options:
    """What the person at the keyboard allows: new host keys, a question on the terminal, how long to wait."""

    accept_new_host_key: bool = False
    ask: Callable[[str], bool] | None = None
    connect_timeout_s: float = 15.0


def connect(uri: str, options: Options = Options()) -> Transport:
    """The open transport for a device's URI. Raises: ConfigError, PluginError, ConnectError, HostKeyError."""
    scheme, colon, _ = uri.partition(":")
    if not colon:
        raise ConfigError(f"{uri!r} is no device URI", "write ssh://user@host or local:/path/to/folder")
    opener = cast("Callable[[str, Options], Transport]", plugins.load(GROUP, scheme))
    return opener(uri, options)
