"""Serving: the collector's app on a port of its own, over TLS."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgekit import web
from edgekit.errors import ConfigError

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
    config = web.config(
        app,
        GOODBYE_S,
        ssl_certfile=door.certificate,
        ssl_keyfile=door.key,
        http=Punctual,
        limit_concurrency=_connections(),
        timeout_keep_alive=IDLE_S,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{door.certificate}: no certificate with its key: {error}", "--certificate, --key"
        ) from error
    web.serve(config, web.listen(door.host, door.port), begun)


def _connections() -> int:
    """How many there may be at a time: each is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return files - SPARE_FILES
