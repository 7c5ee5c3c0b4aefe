"""Web: an app at a port of this host, until somebody ends it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from edgekit.errors import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BACKLOG = 2048


def config(app: Starlette, goodbye_s: int, **settings: object) -> uvicorn.Config:
    """Without a word in anybody's log. ``goodbye_s``: what those who have asked are given when it is ended."""
    quiet = {"log_level": "error", "access_log": False, "server_header": False, "lifespan": "off", "ws": "none"}
    return uvicorn.Config(app, timeout_graceful_shutdown=goodbye_s, backlog=BACKLOG, **{**quiet, **settings})  # type: ignore[arg-type]


def listen(host: str, port: int) -> socket.socket:
    """Before anything is promised: a port that somebody else has is told in one line. Raises: ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"nobody can listen at {host}:{port}: {error.strerror or error}", "choose another --listen"
        ) from error


def serve(how: uvicorn.Config, listener: socket.socket, begun: Callable[[], None]) -> None:
    """Until SIGINT or SIGTERM; who has asked is answered."""
    server = uvicorn.Server(how)
    with listener, _ended_by_signals(server):
        begun()
        server.run(sockets=[listener])


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
