"""Serve: the server from its start to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import notify
from edgekit_runtime.errors import DeviceError, InvalidInput
from edgekit_server.connections import Connections, Limits
from edgekit_server.front import Front
from edgekit_server.launch import Terms
from edgekit_server.loop import Loop
from edgekit_server.residents import Residents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgekit_server.grpc_server import Server
    from edgekit_server.loop import Callback

PORT = 8000
BACKLOG = 512
LOOPBACK = "127.0.0.1"
NICEST = 19


@dataclass(frozen=True)
class Place:
    """Where a server listens: a Unix socket, or an address. One that is not this machine's own takes a token."""

    host: str = LOOPBACK
    port: int = PORT
    path: str = ""

    @property
    def is_private(self) -> bool:
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def address(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"http://{self.address}"


@dataclass(frozen=True)
class Doors:
    """Where a server listens, and what requests must bear, "" for nothing."""

    http: Place
    grpc: Place | None = None
    token: str = ""

    def __str__(self) -> str:
        return f"{self.http}{f' and grpc://{self.grpc.address}' if self.grpc else ''}"


def niceness(words: Sequence[str]) -> dict[str, int]:
    """Of ``APP`` or ``APP:NICE``: by app, how far it is to come after others that need the processor, too.

    Raises: InvalidInput.
    """
    found = {}
    for word in words:
        app, colon, nice = word.partition(":")
        if not app or (colon and not (nice.isdecimal() and int(nice) <= NICEST)):
            raise InvalidInput(f"{word!r} is no app to serve", f"give APP, or APP:NICE with 0 to {NICEST}")
        found[app] = int(nice or 0)
    return found


def place(listen: str, path: str) -> Place:
    """Of ``HOST:PORT`` or ``PORT``, or of the path of a Unix socket. Raises: InvalidInput."""
    if path:
        return Place(path=path)
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"{listen!r} is no address to listen at", "give HOST:PORT, or PORT on this machine alone")
    return Place(host.strip("[]") or LOOPBACK, int(port))


def token(file: str, *places: Place) -> str:
    """What is in a file, "" for none. Raises: InvalidInput where one is needed or it is no secret."""
    if not file:
        public = [where for where in places if not where.is_private]
        if public:
            raise InvalidInput(f"{public[0].address} can be reached by others", "give them a token: --token-file FILE")
        return ""
    path = Path(file)
    try:
        found, mode = path.read_text().strip(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the token cannot be read: {error}") from error
    if mode & (stat.S_IRGRP | stat.S_IROTH) and path.stat().st_uid == os.geteuid():
        raise InvalidInput(f"{file} can be read by others", f"chmod 600 {file}")
    if not found or not found.isascii() or not found.isprintable():
        raise InvalidInput(f"{file} holds no token", "one line of ASCII: openssl rand -hex 32")
    return found


def serve(terms: Terms, doors: Doors, apps: list[str]) -> None:
    """Until SIGTERM or SIGINT; then whoever has asked is answered. Raises: DeviceError when nobody can listen there."""
    loop = Loop()
    with _listener(doors.http) as listener:
        residents = Residents(loop, replace(terms, token=doors.token), apps)
        front = Front(residents, doors.token)
        connections = Connections(loop, listener, front.handle, Limits(body=front.body_most))

        def end() -> None:
            residents.recall()
            connections.end(lambda: residents.stop(loop.stop))

        close = _grpc(doors.grpc, doors.token, connections, end).end if doors.grpc else end
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(number, close)
        notify.SUPERVISOR.ready(f"serving at {doors}")
        print(f"serving at {doors}", flush=True)
        loop.run()


def _grpc(where: Place, secret: str, connections: Connections, ended: Callback) -> Server:
    try:
        from edgekit_server import grpc_server
    except ImportError as error:
        hint = "bring it: edgekit device setup NAME --grpc"
        raise DeviceError(f"gRPC is not installed here ({error})", hint) from error
    return grpc_server.Server(where.address, secret, connections, ended)


@contextlib.contextmanager
def _listener(where: Place) -> Iterator[socket.socket]:
    try:
        with _bound(where) as listener:
            yield listener
    except OSError as error:
        raise DeviceError(
            f"nobody can listen at {where}: {error.strerror or error}", "choose another --listen"
        ) from error
    finally:
        if where.path:
            with contextlib.suppress(OSError):
                os.unlink(where.path)


def _bound(where: Place) -> socket.socket:
    if not where.path:
        family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
        return socket.create_server((where.host, where.port), family=family, backlog=BACKLOG)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(where.path).st_mode):
            os.unlink(where.path)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        listener.bind(where.path)
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener
