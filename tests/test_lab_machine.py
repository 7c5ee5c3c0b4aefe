"""Devices with a card: what befalls it is real, and nothing of a device is left. They need root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import simulate, transports
from edgekit.errors import ConfigError, DeviceError
from edgekit.lab import card, faults, limits, requirements
from edgekit.lab.machine import Machine
from edgekit.simulate import Kind, Simulated
from tests.lab.sshd import own_home, port

__all__ = ["own_home"]  # a fixture
WHY = requirements.lacking(emulated=False)
pytestmark = [pytest.mark.skipif(WHY is not None, reason=str(WHY)), pytest.mark.usefixtures("own_home")]
CARD = Kind(card_mib=16)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Simulated]:
    yield simulate.start("pi-1", tmp_path, CARD)
    machine = Machine(tmp_path / "pi-1")
    simulate.stop("pi-1", tmp_path)
    assert leftovers(machine) == []


def leftovers(machine: Machine) -> list[str]:
    """What there still is of a machine that was stopped."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(machine.folder) in line]
    processes = subprocess.check_output(["ps", "-ww", "-e", "-o", "command"], text=True).splitlines()
    groups = [str(place) for place in limits.ROOT.glob(f"**/{machine.id}")]
    loops = subprocess.check_output(["losetup", "--noheadings", "--output", "BACK-FILE"], text=True).splitlines()
    folder = f"{machine.folder}/"
    return [*mounts, *groups, *(line for line in (*processes, *loops) if folder in line)]


def machine_of(device: Simulated) -> Machine:
    return simulate.machine(device.name, device.folder.parent)


def shell(device: Simulated, script: str) -> tuple[int, str]:
    """A script in the device's EDGEKIT_HOME: its status, and all that it printed."""
    with transports.connect(device.uri) as link:
        done = link.run(["sh", "-c", f'cd "$EDGEKIT_HOME" && {{ {script}; }} 2>&1'])
    return done.status, done.stdout.decode()


def again(device: Simulated) -> Simulated:
    return simulate.start(device.name, device.folder.parent)


class TestCut:
    def test_what_was_synced_is_there_and_nothing_else(self, device: Simulated) -> None:
        assert shell(device, "echo safe >kept; sync; echo lost >gone; echo half >kept.new; mv kept.new kept")[0] == 0
        machine_of(device).cut()
        assert again(device) == device
        assert shell(device, "ls; cat kept") == (0, "kept\nsafe\n")

    def test_everything_that_ran_has_ended(self, device: Simulated) -> None:
        shell(device, "(sleep 987 >/dev/null 2>&1 &)")
        machine_of(device).cut()
        assert not [each for each in leftovers(machine_of(device)) if not each.startswith(str(limits.ROOT))]
        again(device)


class TestOtherFaults:
    def test_a_full_card(self, device: Simulated) -> None:
        simulate.befall(device.name, device.folder.parent, "full")
        status, told = shell(device, "head -c 5000 /dev/zero >f")
        assert status
        assert "No space left on device" in told
        simulate.befall(device.name, device.folder.parent, "none")
        assert shell(device, "head -c 5000 /dev/zero >f") == (0, "")

    def test_a_card_that_can_only_be_read(self, device: Simulated) -> None:
        shell(device, "echo text >f")
        faults.read_only(machine_of(device))
        status, told = shell(device, "cat f; touch g")
        assert status
        assert told.startswith("text\n")
        assert "Read-only file system" in told
        faults.none(machine_of(device))
        assert shell(device, "touch g") == (0, "")

    @pytest.mark.slow
    def test_a_slow_card(self, device: Simulated) -> None:
        try:
            faults.slow(machine_of(device))
        except DeviceError as error:
            pytest.skip(error.message)
        started = time.monotonic()
        assert shell(device, "dd if=/dev/zero of=f bs=1M count=2 conv=fsync 2>/dev/null")[0] == 0
        assert time.monotonic() - started > 0.7
        faults.none(machine_of(device))

    def test_a_device_that_is_off(self, device: Simulated) -> None:
        machine_of(device).power_off()
        with pytest.raises(DeviceError, match="pi-1 is not running"):
            simulate.befall(device.name, device.folder.parent, "full")


class TestLife:
    def test_it_is_found_running(self, device: Simulated) -> None:
        pid = machine_of(device).process.pid
        assert again(device) == device
        assert machine_of(device).process.pid == pid
        assert device.note.endswith("a card of 16 MiB")

    def test_killed_it_starts_again_with_its_card_and_port(self, device: Simulated) -> None:
        shell(device, "echo text >f; sync")
        pid = machine_of(device).process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        after = again(device)
        assert port(after) == port(device)
        assert shell(device, "cat f") == (0, "text\n")

    def test_another_kind_of_device_has_its_name(self, tmp_path: Path, device: Simulated) -> None:
        simulate.start("pi-2", tmp_path)
        with pytest.raises(ConfigError, match="pi-2 is a device already: sshd"):
            simulate.start("pi-2", tmp_path, CARD)
        simulate.stop("pi-2", tmp_path)
        with pytest.raises(ConfigError, match="pi-2 has no card"):
            simulate.machine("pi-2", tmp_path)

    def test_a_card_that_cannot_be_mounted(self, device: Simulated) -> None:
        machine_of(device).power_off()
        machine_of(device).image.write_bytes(b"no file system" * 99999)
        with pytest.raises(DeviceError, match="pi-1 does not start: mount"):
            again(device)
        assert card.loop_of(machine_of(device).image) is None

    @pytest.mark.slow
    @pytest.mark.parametrize("delay", [0.15, 0.25, 0.35, 0.5])
    def test_the_command_that_starts_it_is_killed(self, tmp_path: Path, delay: float) -> None:
        program = "from edgekit import simulate; from pathlib import Path; import sys\n"
        program += "simulate.start('pi-1', Path(sys.argv[1]), simulate.Kind(card_mib=16))"
        with subprocess.Popen([sys.executable, "-c", program, tmp_path], stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.kill()
        device = simulate.start("pi-1", tmp_path, CARD)
        assert shell(device, "touch f") == (0, "")
        machine = machine_of(device)
        simulate.stop("pi-1", tmp_path)
        assert leftovers(machine) == []
        assert list(tmp_path.glob("pi-1")) == []
