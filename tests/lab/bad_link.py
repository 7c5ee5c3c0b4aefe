"""A bad link to an SSH server on the loopback, of real packets: they are lost, late, and few at a time.

It is a TUN interface whose packets come back to this machine as their own neighbour's: with source and destination
exchanged, a checksum still holds, and one interface has both ends. So the kernel's TCP, and not a proxy's idea of it,
meets the loss. It takes root; the interface goes with the test.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from edgekit.simulate import Simulated
from tests.lab.sshd import port, reconfigure

TUN = "/dev/net/tun"
QUEUE_S, QUEUE = 2.0, 1 << 14
"""So long a packet may wait for its turn at a slow link, and so many bytes at least; what comes then is dropped."""
_TUNSETIFF, _SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS = 0x400454CA, 0x8916, 0x891C, 0x8914
_TUN_WITHOUT_HEADER, _UP_AND_RUNNING = 0x1001, 0x41


def _lacking() -> str | None:
    """Why this machine cannot have one."""
    try:
        with Path(TUN).open("r+b", buffering=0) as tun:
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"edgekit%d", _TUN_WITHOUT_HEADER))
    except OSError as error:
        return f"packets that are really lost take root and {TUN}: {error.strerror}"
    return None


needs_tun = pytest.mark.skipif(bool(why := _lacking()), reason=str(why))


@dataclass
class BadLink:
    """``loss``: the share of packets that is lost; ``delay_s`` and ``rate`` (bytes a second) are of each way.

    ``up`` and ``down``: bytes that got through to and from the server, headers and all. ``lost``: packets.
    """

    server: int
    loss: float = 0.0
    delay_s: float = 0.0
    rate: float = 0.0
    up: int = 0
    down: int = 0
    passed: int = 0
    lost: int = 0
    here: str = ""
    there: str = ""
    _free_s: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def serve(self, tun: int, closed: int) -> None:
        """Carry packets until the other end of ``closed`` is closed."""
        under_way: list[tuple[float, int, bytes]] = []
        while True:
            wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            ready = select.select([tun, closed], [], [], wait_s)[0]
            if closed in ready:
                return
            if tun in ready:
                packet = os.read(tun, 1 << 16)
                due_s = self._due_s(packet, time.monotonic())
                if due_s is not None:
                    heapq.heappush(under_way, (due_s, self.passed, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                os.write(tun, _turned(heapq.heappop(under_way)[2]))

    def _due_s(self, packet: bytes, now_s: float) -> float | None:
        """When a packet arrives; None for never."""
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return None
        upwards = int(struct.unpack_from("!H", packet, 4 * (packet[0] & 15) + 2)[0]) == self.server
        starts_s = max(now_s, self._free_s[upwards])
        full = self.rate and (starts_s - now_s) > max(QUEUE_S, QUEUE / self.rate)
        if full or self._chance.random() < self.loss:
            self.lost += 1
            return None
        self._free_s[upwards] = ends_s = starts_s + (len(packet) / self.rate if self.rate else 0.0)
        self.passed += 1
        self.up, self.down = self.up + len(packet) * upwards, self.down + len(packet) * (not upwards)
        return ends_s + self.delay_s


def _turned(packet: bytes) -> bytes:
    """From the one it was sent to, to the one who sent it."""
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


@contextmanager
def bad_link(device: Simulated, **how: float) -> Iterator[BadLink]:
    """A bad link to a simulated device, of this machine's own address range for measurements (RFC 2544)."""
    link, tun = BadLink(port(device), **how), os.open(TUN, os.O_RDWR)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    carrying = threading.Thread(target=link.serve, args=(tun, theirs.fileno()), daemon=True)
    try:
        link.here, link.there = _raise_interface(tun)
        reconfigure(device, f"ListenAddress {link.here}")
        carrying.start()
        yield link
    finally:
        ours.close()
        with suppress(RuntimeError):  # it never started
            carrying.join()
        theirs.close()
        os.close(tun)


def _raise_interface(tun: int) -> tuple[str, str]:
    """Its address, and that of its neighbour, who does not exist."""
    asked = struct.pack("16sH22x", b"edgekit%d", _TUN_WITHOUT_HEADER)
    name = fcntl.ioctl(tun, _TUNSETIFF, asked)[:16]
    number = int(name.rstrip(b"\0").removeprefix(b"edgekit"))
    here, there = (f"198.18.{number}.{end}" for end in (1, 2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, address in ((_SIOCSIFADDR, here), (_SIOCSIFNETMASK, "255.255.255.252")):
            told = struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(control, request, told)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, _UP_AND_RUNNING))
    return here, there


def over(device: Simulated, link: BadLink, folder: Path) -> str:
    """The device's URI by way of the link."""
    lines = f"Host {link.there}\n  HostName {link.there}\n  HostKeyAlias [127.0.0.1]:{port(device)}\n"
    place = folder / f"bad-link-{link.there}"
    place.write_text(lines + (device.folder / "ssh_config").read_text().replace("127.0.0.1", link.there, 1))
    user = device.uri.partition("@")[0]
    return f"{user}@{link.there}:{port(device)}?config={quote(str(place))}"
