"""Fan-out: the same work for many devices at once, on any ``concurrent.futures.Executor``.

What goes to an executor and what comes back are plain values, which pickle: each piece of work opens its own way to its
device, there where it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from edgekit import transports
from edgekit.errors import ConfigError, ConnectError, EdgekitError, ExtraNotInstalled
from edgekit.fleet import Device
from edgekit.transports import Transport

WIDTH = 50
"""Devices at once: each takes a handful of threads and two or three open files."""
ANSWER_S = 15

Piece = TypeVar("Piece")
Result = TypeVar("Result")


@contextmanager
def reached(device: Device, options: transports.Options) -> Iterator[Transport]:
    """The open transport to a device; an error on the way names the device, as does the command that its hint has."""
    try:
        with transports.connect(device.uri, options) as transport:
            yield transport
    except EdgekitError as error:
        if not error.message.startswith(f"{device.name}: "):
            error.message = f"{device.name}: {error.message}"
        if error.hint:  # a device does not know what it is called here
            error.hint = error.hint.replace("edgekit device setup'", f"edgekit device setup {device.name}'")
        raise


@contextmanager
def executor(uri: str | None = None, width: int = WIDTH) -> Iterator[Executor]:
    """Threads of this process, ``width`` of them at most, or a cluster by its URI, ``dask://HOST:PORT``.

    Raises: ConfigError, ExtraNotInstalled, ConnectError when no scheduler answers there.
    """
    if uri is None:
        threads = ThreadPoolExecutor(width, "edgekit-device")
        try:
            yield threads
        finally:
            threads.shutdown(cancel_futures=True)
        return
    parts = urlsplit(uri)
    if parts.scheme != "dask" or not parts.netloc:
        raise ConfigError(f"{uri!r} is no executor", "write dask://HOST:PORT, or leave it out for threads")
    with _dask(parts.netloc) as pool:
        yield pool


def each(
    pool: Executor, work: Callable[[Piece], Result], pieces: Iterable[Piece], enough: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Piece, Future[Result]]]:
    """The pieces with their ended futures, as they come; once there is ``enough``, only what has begun already."""
    under_way: dict[Future[Result], Piece] = {pool.submit(work, piece): piece for piece in pieces}
    for future in as_completed(under_way):
        if not future.cancelled():
            yield under_way[future], future
        if enough():
            for other in under_way:
                other.cancel()


def at_once(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """What the work gives for each piece, in their order, on threads; an only one is done by the caller's own."""
    if len(pieces) < 2:
        return [work(piece) for piece in pieces]
    with executor() as pool:
        return list(pool.map(work, pieces))


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ExtraNotInstalled("a Dask cluster needs distributed", "pip install 'edgekit-sdk[dask]'") from error
    try:
        client = Client(address, timeout=ANSWER_S)
    except (OSError, ValueError) as error:
        raise ConnectError(f"dask://{address}: no scheduler answers: {error}") from error
    with client:
        # the same piece twice is work twice: a retry of a rollout must reach the device again
        yield client.get_executor(pure=False, retries=0)
