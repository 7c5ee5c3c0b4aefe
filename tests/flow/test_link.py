"""A link that is cut, falls silent or is slow, between a host and the real sshd of a device."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgekit import push as pushing
from edgekit import transports
from edgekit.errors import ConnectError, TransportError, TransportTimeout
from edgekit.push import Parcel
from edgekit.simulate import Simulated
from edgekit.transports import ssh, ssh_pulse
from edgekit_runtime.patch import CHUNK
from tests.lab.bundles import contents, make_bundle
from tests.lab.project import equip, project, until
from tests.lab.sent import send
from tests.lab.sshd import needs_sshd, running, sessions
from tests.lab.wire import Wire, through, wired

__all__ = ["project"]  # a fixture
pytestmark = needs_sshd

TWICE = 256 << 10
"""The most that a cut may cost."""
AROUND = 24 << 10
"""More than a push sends of SSH's own, and of its two commands."""


@dataclass
class Way:
    """A device behind a wire, and a bundle of bytes that do not deflate."""

    device: Simulated
    wire: Wire
    uri: str
    parcel: Parcel

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.parcel.blobs)

    def send(self) -> int:
        with transports.connect(self.uri) as link:
            return send(self.parcel, link)

    def arrived(self) -> int:
        """Bytes of it that the device has, in the place that has most."""
        sizes = [0]
        for place in (self.device.home / "incoming").glob("*"):
            with suppress(OSError):
                sizes.append(sum(file.stat().st_size for file in place.iterdir()))
        return max(sizes)


@pytest.fixture
def way(project: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    model = np.random.default_rng(0).bytes(48 * CHUNK)
    made = make_bundle(project / "made", replace(contents(), model=model))
    with running("pi", tmp_path / "devices") as device, wired(device) as wire:
        equip(device.home, tmp_path_factory.getbasetemp())
        yield Way(device, wire, through(device, wire, tmp_path), pushing.open_parcel(made.root))


def cut_often(way: Way, cuts: int) -> None:
    chance = random.Random(1)
    way.wire.rate = 1e6  # what the device has not read by then is lost with sshd: it is to be no more than a chunk
    for _ in range(cuts):
        way.wire.cut_after = AROUND + int(chance.uniform(0.2, 1) * way.size / cuts)
        with pytest.raises(ConnectError, match="connection was lost"):
            way.send()
    way.wire.cut_after, way.wire.rate = None, 0.0
    way.send()
    assert way.wire.up < way.size + AROUND + cuts * (TWICE + AROUND)


@pytest.mark.slow
def test_a_link_that_is_cut_costs_one_chunk_each_time(way: Way) -> None:
    cut_often(way, 3)


@pytest.mark.slow
def test_a_link_that_is_cut_twenty_times(way: Way) -> None:
    cut_often(way, 20)


def test_an_sshd_that_is_killed_costs_one_chunk(way: Way) -> None:
    def kill() -> None:
        until(lambda: way.arrived() > way.size // 3)
        for pid in sessions(way.device):
            with suppress(FileNotFoundError, ProcessLookupError):  # one goes with another
                if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)

    way.wire.rate = 1e6  # so that it is under way for seconds
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        with pytest.raises(ConnectError, match="connection was lost"):
            way.send()
        killed.result()
    way.wire.rate = 0.0
    way.send()
    assert way.wire.up < way.size + TWICE + 2 * AROUND


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_pulse, "EVERY_S", 0.2)
    monkeypatch.setattr(ssh_pulse, "SILENCE_S", 3.0)


@pytest.mark.usefixtures("impatient")
class TestSilence:
    """No packet comes, and nobody says that the link is dead."""

    @pytest.mark.slow
    def test_in_the_midst_of_a_transfer(self, way: Way) -> None:
        way.wire.rate = 1e6
        with ThreadPoolExecutor(1) as pool:
            falling = pool.submit(self.fall_silent, way, lambda: way.arrived() > 4 * CHUNK)
            with pytest.raises(TransportTimeout, match="no answer for 3 s while running sh"):
                way.send()
            assert time.monotonic() - falling.result() < 30
        way.wire.silent, way.wire.rate = False, 0.0
        before = way.wire.up
        way.send()  # whose sshd for the dead connection may live on for hours
        assert way.wire.up - before < way.size - 4 * CHUNK + TWICE + AROUND

    @pytest.mark.parametrize(
        "what", ["run", pytest.param("put", marks=pytest.mark.slow), pytest.param("get", marks=pytest.mark.slow)]
    )
    def test_while_nothing_is_to_go_over(self, way: Way, tmp_path: Path, what: str) -> None:
        with transports.connect(way.uri) as link:
            link.put(Path(__file__), str(tmp_path / "there"))
            silent = time.monotonic()
            way.wire.silent = True
            with pytest.raises(TransportTimeout):
                if what == "run":
                    link.run(["sleep", "60"])
                elif what == "put":
                    link.put(Path(__file__), str(tmp_path / "there"))
                else:
                    link.get(str(tmp_path / "there"), tmp_path / "here")
            assert time.monotonic() - silent < 30

    def fall_silent(self, way: Way, moment: Callable[[], bool]) -> float:
        until(moment)
        way.wire.silent = True
        return time.monotonic()


@pytest.mark.slow
def test_a_link_with_a_latency_is_kept_busy(way: Way) -> None:
    way.wire.delay_s = 0.05
    started = time.monotonic()
    way.send()
    round_trips = (time.monotonic() - started) / (2 * way.wire.delay_s)
    assert round_trips < 40, "48 chunks that each wait for an answer would need more, beside the login"


class TestSlow:
    """A proxy takes all at once and passes it on slowly; the time allowed is the program's, not the link's."""

    COUNT, SAY = ("sh", "-c", "wc -c"), ("sh", "-c", "head -c 400000 /dev/zero")

    @pytest.fixture
    def slow(self, way: Way, monkeypatch: pytest.MonkeyPatch) -> Iterator[transports.Transport]:
        monkeypatch.setattr(ssh, "LOOK_S", 0.05)
        with transports.connect(way.uri) as link:
            way.wire.rate = 150e3
            yield link

    def test_input_on_its_way(self, slow: transports.Transport) -> None:
        assert slow.run(self.COUNT, stdin=bytes(400_000), timeout_s=1.5).stdout.strip() == b"400000"

    def test_output(self, slow: transports.Transport) -> None:
        assert slow.run(self.SAY, timeout_s=1.5).stdout == bytes(400_000)

    def test_a_program_that_takes_no_more(self, slow: transports.Transport) -> None:
        with pytest.raises(TransportTimeout, match=r"sh did not end within 1\.5 s"):
            slow.run(["sh", "-c", "head -c 100000 >/dev/null; sleep 20"], stdin=bytes(400_000), timeout_s=1.5)

    def test_one_that_says_a_little_again_and_again(self, slow: transports.Transport) -> None:
        with pytest.raises(TransportTimeout):
            slow.run(["sh", "-c", "while :; do echo; sleep 0.1; done"], timeout_s=1.5)

    def test_one_that_never_ends_to_speak(self, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ssh, "MOST_SAID", 1 << 20)
        with transports.connect(way.uri) as link, pytest.raises(TransportError, match="it says more than 1 MiB"):
            link.run(["cat", "/dev/zero"])
