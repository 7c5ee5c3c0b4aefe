"""A wire to an SSH server on the loopback that can be counted, cut, silenced, slowed and held up."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from edgekit.simulate import Simulated

PIECE = 1 << 14


@dataclass
class Wire:
    """``up`` and ``down`` count bytes to and from the server, in all connections.

    ``cut_after``: so many more bytes go up, then every connection is closed. ``silent``: nothing moves any more, and
    nobody is told. ``delay_s`` is of each way, ``rate`` bytes a second of each way.
    """

    server: int
    delay_s: float = 0.0
    rate: float = 0.0
    cut_after: int | None = None
    silent: bool = False
    up: int = 0
    down: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def total(self) -> int:
        return self.up + self.down

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [client, server]
            for source, sink, upwards in ((client, server, True), (server, client, False)):
                held: queue.Queue[tuple[float, bytes]] = queue.Queue()
                threading.Thread(target=self._take, args=(source, held, upwards), daemon=True).start()
                threading.Thread(target=self._give, args=(held, sink), daemon=True).start()

    def _take(self, source: socket.socket, held: queue.Queue[tuple[float, bytes]], upwards: bool) -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(PIECE)
            except OSError:
                data = b""
            while self.silent:
                time.sleep(0.05)
            if upwards and self.cut_after is not None:
                data = data[: self.cut_after]
                self.cut_after -= len(data)
            self.up, self.down = self.up + len(data) * upwards, self.down + len(data) * (not upwards)
            held.put((time.monotonic() + self.delay_s, data))
            if self.rate:
                time.sleep(len(data) / self.rate)
        if upwards and self.cut_after == 0:
            self.cut_after = None

    def _give(self, held: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        while True:
            due, data = held.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if not data:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)

    def cut(self) -> None:
        """Close every connection now; new ones can be made."""
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.silent = False
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def wired(device: Simulated, **how: float) -> Iterator[Wire]:
    """A wire to a simulated device."""
    wire = Wire(int(device.uri.partition("?")[0].rpartition(":")[2]), **how)  # type: ignore[arg-type]
    threading.Thread(target=wire.serve, daemon=True).start()
    try:
        yield wire
    finally:
        wire.close()


def configuration(device: Simulated, wire: Wire, folder: Path) -> Path:
    """An OpenSSH configuration by which the device's name leads through the wire."""
    own, port = device.folder / "ssh_config", wire.server
    lines = f"Host {device.name} 127.0.0.1\n  Port {wire.port}\n  HostKeyAlias [127.0.0.1]:{port}\n"
    place = folder / f"wire-{wire.port}"
    place.write_text(lines + own.read_text())
    return place


def through(device: Simulated, wire: Wire, folder: Path) -> str:
    """The device's URI through the wire."""
    user = device.uri.partition("@")[0]
    return f"{user}@127.0.0.1:{wire.port}?config={quote(str(configuration(device, wire, folder)))}"
