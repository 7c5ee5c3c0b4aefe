"""Serving: the collector's app on a port of its own, over TLS."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgekit.errors import ConfigError

BACKLOG = 2048
IDLE_S, GOODBYE_S = 30, 10
HEAD_S = 30.0
"""How long a connection may take to ask for something."""
MOST_FILES, SPARE_FILES = 4096, 64


@dataclass(frozen=True)
class Door:
    """Where it listens, and what it shows there; a key "" stands in the certificate's file."""

    host: str
    port: int
    certificate: Path
    key: Path | None = None


def place(listen: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT or PORT, which is on all interfaces. Raises: ConfigError."""
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 1 << 16 or (":" in host and not host.startswith("[")):
        raise ConfigError(f"--listen {listen!r} is no place to listen at", "such as 0.0.0.0:8443 or [::]:8443")
    return host.strip("[]") or "0.0.0.0", int(port)


class Punctual(H11Protocol):
    """Lets nobody hold a connection who asks for nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.loop.call_later(HEAD_S, self._late)

    def _late(self) -> None:
        asked: object = self.cycle  # None until something was asked for, whatever uvicorn says of its type
        if asked is None and not self.transport.is_closing():
            self.transport.close()


def serve(app: Starlette, door: Door, begun: Callable[[], None]) -> None:
    """Until SIGINT or SIGTERM; what is being taken then is still taken. ``begun``: it listens. Raises: ConfigError."""
    config = uvicorn.Config(
        app,
        ssl_certfile=door.certificate,
        ssl_keyfile=door.key,
        backlog=BACKLOG,
        http=Punctual,
        ws="none",
        limit_concurrency=_connections(),
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GOODBYE_S,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{door.certificate}: no certificate with its key: {error}", "--certificate, --key"
        ) from error
    with _listening(door) as taken:
        begun()
        uvicorn.Server(config).run(sockets=[taken])


def _listening(door: Door) -> socket.socket:
    """Before anything is promised: a port that somebody else has is told in one line."""
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    try:
        return socket.create_server((door.host, door.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"{door.host}:{door.port}: {error.strerror}", "choose another one with --listen") from error


def _connections() -> int:
    """How many there may be at a time: each is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return files - SPARE_FILES
