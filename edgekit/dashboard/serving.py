"""Serving: the dashboard at an address, until it is told to end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from edgekit.errors import ConfigError
from edgekit_server.serve import Place

GOODBYE_S = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(app: Starlette, where: Place, begun: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM; who has asked is answered. ``begun`` is told the URL. Raises: ConfigError."""
    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=GOODBYE_S, ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    with _listening(where) as listener, _ended_by_signals(server):
        begun(str(Place(where.host, listener.getsockname()[1])))
        server.run(sockets=[listener])


def _listening(where: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        return socket.create_server((where.host, where.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"nobody can listen at {where}: {error.strerror or error}", "choose another --listen"
        ) from error


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Also by one that comes before the server looks out for them; what it sends on once it has ended is no news."""

    def end(number: int, frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
