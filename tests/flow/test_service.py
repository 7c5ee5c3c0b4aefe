"""A program as a service, on a device that its own systemd has booted: with root and without."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import fleet, transports
from edgekit.fleet import Device
from edgekit_runtime.bundle import Bundle
from tests.lab.booted import CACHE, USER, Booted, booted
from tests.lab.bundles import DIGITS, TARGET, make_bundle
from tests.lab.project import document, edgekit, settle, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WATCHDOG_S = 5
START_S = 60
"""The most that a start takes on a busy machine."""
LOOP = """\
import sys, time
import numpy
from edgekit_runtime import load

with load("digits") as session:
    while True:
        with open(sys.argv[1], "rb") as camera:
            session.predict(numpy.load(camera))
        time.sleep(0.005)
"""
PROGRAM, CAMERA = "/opt/my loop.py", "/opt/camera"
SERVICE = f"python '{PROGRAM}' {CAMERA}"


@dataclass(frozen=True)
class Mode:
    """Who logs in, where edgekit's home is then, and how root asks that manager."""

    name: str
    home: str
    manager: str


MODES = (
    Mode("system", "/var/lib/edgekit", "systemctl"),
    Mode("user", f"/home/{USER}/.local/share/edgekit", f"systemctl --user --machine={USER}@"),
)


@dataclass(frozen=True)
class Desk:
    """A device with a service, and two releases that it can have."""

    machine: Booted
    mode: Mode
    said: dict[str, Any]
    bundles: tuple[Bundle, Bundle]

    def show(self) -> dict[str, str]:
        """What its manager says of the unit."""
        asked = "Type,SubState,StatusText,MainPID,NRestarts,WatchdogUSec"
        done = self.machine.ssh(f"{self.mode.manager} show --property={asked} edgekit-digits.service")
        assert not done.returncode, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def serves(self, release: Bundle) -> bool:
        """Whether the program has told that it is ready with it."""
        said = self.show()
        told = said["StatusText"].startswith(f"digits {release.digest[:19]} by ")
        return said["SubState"] == "running" and told

    def app(self) -> dict[str, Any]:
        [device] = document("status", self.mode.name)["devices"]
        app: dict[str, Any] = device["apps"][0]
        return app

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """A camera that gives no picture to who reads from it."""
        kept, pipe = f"{CAMERA}.kept", f"{CAMERA}.pipe"  # it is never without one: the program would end by itself
        self.machine.ssh(f"cp {CAMERA} {kept} && mkfifo -m 644 {pipe} && mv {pipe} {CAMERA}").check_returncode()
        try:
            yield
        finally:
            self.machine.ssh(f"mv {CAMERA}.kept {CAMERA}").check_returncode()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield settle(tmp_path_factory.mktemp("service"), CACHE, patch)


@pytest.fixture(scope="module")
def machine(project: Path) -> Iterator[Booted]:
    with booted(project / "machine") as found, transports.connect(found.root) as link:
        picture = io.BytesIO()
        np.save(picture, np.load(DIGITS / "evaluation.npz")["x"][:1])
        for path, data in ((PROGRAM, LOOP.encode()), (CAMERA, picture.getvalue())):
            link.run(["sh", "-c", 'cat >"$1"', "sh", path], stdin=data).check()
        yield found


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: mode.name)
def desk(project: Path, machine: Booted, request: pytest.FixtureRequest) -> Desk:
    """Set up with a service, before it has a release."""
    mode: Mode = request.param
    fleet.add(project, Device(mode.name, machine.root if mode.name == "system" else machine.user, TARGET))
    words = ("--service", SERVICE, "--app", "digits", "--watchdog", str(WATCHDOG_S))
    said = document("device", "setup", mode.name, "--offline", *words)
    first, second = (make_bundle(project / mode.name / str(n), sequence=n, version=f"1.{n}") for n in (1, 2))
    return Desk(machine, mode, said, (first, second))


def test_it_waits_for_a_release_and_is_ready_when_that_is_loaded(desk: Desk) -> None:
    assert desk.said["service"]["unit"] == "edgekit-digits.service"
    assert desk.said["service"]["note"].startswith("its log, there: journalctl ")
    before = desk.show()
    assert (before["Type"], before["SubState"], before["MainPID"]) == ("notify", "dead", "0")
    first, _ = desk.bundles
    edgekit("push", first.root, "--to", desk.mode.name)
    until(lambda: desk.serves(first), START_S)
    assert desk.show()["WatchdogUSec"] == f"{WATCHDOG_S}s"


def test_one_that_hangs_is_killed_and_started_again(desk: Desk) -> None:
    before = desk.show()
    with desk.hanging():
        until(lambda: int(desk.show()["NRestarts"]), WATCHDOG_S + START_S)
        assert "Watchdog timeout" in desk.machine.ssh("journalctl --boot --output=cat --grep='Watchdog timeout'").stdout
    until(lambda: desk.serves(desk.bundles[0]), START_S)
    assert desk.show()["MainPID"] != before["MainPID"]


def test_a_push_starts_it_anew_with_the_release(desk: Desk) -> None:
    before, (_, second) = desk.show(), desk.bundles
    edgekit("push", second.root, "--to", desk.mode.name)
    until(lambda: desk.serves(second), START_S)
    assert desk.show()["MainPID"] != before["MainPID"]


def test_it_is_there_again_after_a_reboot_though_nobody_logged_in(desk: Desk) -> None:
    """It ended in order: what it had counted is written, and a trial takes that for no failed start."""
    desk.machine.reboot()
    until(lambda: desk.serves(desk.bundles[1]), START_S)
    assert desk.show()["NRestarts"] == "0"
    now = desk.app()["current"]
    assert now["digest"] == desk.bundles[1].digest
    trial = now.get("trial")
    assert trial["calls"] and not trial["failed_starts"] if trial else now["state"]["name"] == "good"


@pytest.mark.parametrize("desk", MODES[:1], ids=["system"], indirect=True)
def test_the_system_s_is_rated_well_and_shut_in(desk: Desk) -> None:
    rated = desk.machine.ssh("systemd-analyze security --no-pager --threshold=20 edgekit-digits.service")
    assert not rated.returncode, rated.stdout
    pid, home = desk.show()["MainPID"], desk.mode.home
    status = desk.machine.ssh(f"cat /proc/{pid}/status").stdout
    assert [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")] == ["0" * 16]
    for place in ("/etc/new", "/root/new", f"{home}/trust/new", f"{home}/env/new", f"{home}/blobs/new"):
        tried = desk.machine.ssh(f"nsenter --target {pid} --mount touch {place}")
        assert "Read-only file system" in tried.stderr, place
    assert not desk.machine.ssh(f"nsenter --target {pid} --mount touch {home}/apps/new").returncode


def test_it_goes_with_edgekit(desk: Desk) -> None:
    edgekit("device", "remove", desk.mode.name)
    assert desk.machine.ssh(f"{desk.mode.manager} cat edgekit-digits.service").returncode
    assert not desk.machine.ssh("pgrep", "-f", PROGRAM.rpartition("/")[2]).stdout
