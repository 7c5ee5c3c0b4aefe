"""Pushes over a link whose packets are lost, late, and few at a time. The figures are printed: pytest -s."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import onnx
import pytest

from edgekit import device as devices
from edgekit import push as pushing
from edgekit import sending, transports
from edgekit.errors import TransportTimeout
from edgekit.fleet import Device
from edgekit.push import Pushed
from edgekit.simulate import Simulated
from edgekit.transports import ssh_pulse
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.states import SERVED
from tests.lab.bad_link import BadLink, bad_link, needs_tun, over
from tests.lab.bundles import TARGET, contents, make_bundle
from tests.lab.project import equip, project, until
from tests.lab.sshd import needs_sshd, running

__all__ = ["project"]  # a fixture

pytestmark = [needs_sshd, needs_tun, pytest.mark.slow]

KBIT_64 = 8000.0
"""Bytes a second."""
TOLD = re.compile(r"sending (\w+): (\d+)%, (\d+) KiB/s, (\d+) s left")


@dataclass
class Way:
    """A device at the end of a bad link; ``told``: each line of a push, and when it came."""

    device: Simulated
    link: BadLink
    folder: Path
    told: list[tuple[float, str]] = field(default_factory=list)

    def bundle(self, kib: int, change: int = 0) -> Bundle:
        """One whose model has so many KiB of noise; ``change``: another version of it has a hundred other bytes."""
        model, noise = onnx.load_from_string(contents().model), bytearray(Random(1).randbytes(kib << 10))
        noise[5000:5100] = Random(change).randbytes(100)
        model.doc_string = bytes(byte & 127 for byte in noise).decode()
        given = replace(contents(), model=model.SerializeToString())
        return make_bundle(self.folder / f"made/{kib}-{change}", given, sequence=3 + change)

    def push(self, bundle: Bundle) -> tuple[Pushed, float]:
        """A push that ends right, and how long all of it took, the login too."""
        uri, started, before = over(self.device, self.link, self.folder), time.monotonic(), self.link.up
        self.told = []

        def tell(line: str) -> None:
            self.told.append((time.monotonic() - started, line))
            print(f"{self.told[-1][0]:6.1f} s  {line}")

        with transports.connect(uri) as link:
            pushed = pushing.push(pushing.open_parcel(bundle.root), Device("pi", uri, TARGET), link, tell)
            seconds = time.monotonic() - started
            [app] = devices.call(link, "status")["apps"]
        assert app["current"]["digest"] == bundle.digest
        assert app["current"]["state"]["name"] in SERVED
        print(
            f"{seconds:6.1f} s  live: {pushed.bytes_sent} of {pushed.bytes_total} bytes, {self.link.up - before} on the"
            f" wire; {self.link.lost} of {self.link.passed + self.link.lost} packets lost"
        )
        return pushed, seconds


@pytest.fixture
def way(project: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with running("pi", tmp_path / "devices") as device, bad_link(device) as link:
        equip(device.home, tmp_path_factory.getbasetemp())
        yield Way(device, link, tmp_path)


def test_five_in_a_hundred_packets_are_lost(way: Way) -> None:
    way.link.loss, way.link.delay_s = 0.05, 0.05
    first, seconds = way.push(way.bundle(1000))
    assert way.link.lost > 20
    assert first.bytes_sent > 800 << 10
    assert seconds < 60
    second, seconds = way.push(way.bundle(1000, 1))
    assert second.bytes_sent < 16 << 10
    assert seconds < 30


def test_64_kbit_a_second(way: Way) -> None:
    """What a push takes beside its bytes is a login and a few commands, of some 20 KiB and 10 round trips."""
    way.link.rate, way.link.delay_s = KBIT_64, 0.05
    first, seconds = way.push(way.bundle(40))
    assert first.bytes_sent / KBIT_64 < seconds < 1.2 * first.bytes_sent / KBIT_64 + 12
    second, seconds = way.push(way.bundle(40, 1))
    assert second.bytes_sent < 8 << 10
    assert seconds < 14


def test_rate_and_time_left_are_those_of_the_link(way: Way) -> None:
    """What the kernel took and the link did not is not told as sent."""
    way.link.rate, way.link.delay_s = KBIT_64, 0.05
    way.push(way.bundle(300))
    told = [(at_s, found) for at_s, line in way.told if (found := TOLD.fullmatch(line))]
    proving = next(at_s for at_s, line in way.told if line.startswith("proving"))
    assert len(told) >= 3
    for at_s, found in told[1:]:
        assert 6 <= int(found[3]) <= 16
        assert abs(proving - at_s - int(found[4])) < 20


def test_slow_is_not_dead(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience of 12 s here is at 8 kB/s what that of 60 s is at 1.6 kB/s."""
    monkeypatch.setattr(ssh_pulse, "EVERY_S", 1.0)
    monkeypatch.setattr(ssh_pulse, "SILENCE_S", 12.0)
    monkeypatch.setattr(sending, "WORK_S", 15.0)
    way.link.rate = KBIT_64
    way.push(way.bundle(300))


def test_a_black_hole_is_dead(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """No packet gets through any more, in the midst of a transfer; nobody waits for the kernel, which tries long."""
    monkeypatch.setattr(ssh_pulse, "EVERY_S", 0.5)
    monkeypatch.setattr(ssh_pulse, "SILENCE_S", 3.0)
    way.link.rate = 1e5
    bundle = way.bundle(500)
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(way.push, bundle)
        until(lambda: way.link.up > 200_000)
        way.link.loss, silent_s = 1.0, time.monotonic()
        with pytest.raises(TransportTimeout, match="no answer for 3 s while running sh"):
            attempt.result()
        assert time.monotonic() - silent_s < 30
    way.link.loss = 0.0
    again, _ = way.push(bundle)
    assert again.bytes_sent < 400_000


def test_files_go_slowly_both_ways(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_pulse, "EVERY_S", 1.0)
    monkeypatch.setattr(ssh_pulse, "SILENCE_S", 15.0)
    way.link.rate = KBIT_64
    here, there, back = (way.folder / name for name in ("here", "there", "back"))
    here.write_bytes(Random(1).randbytes(150_000))
    with transports.connect(over(way.device, way.link, way.folder)) as link:
        link.put(here, str(there))
        link.get(str(there), back)
    assert here.read_bytes() == there.read_bytes() == back.read_bytes()
