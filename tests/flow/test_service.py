"""A program as a service, on a device that its own systemd has booted: with root and without."""

from __future__ import annotations

import io
import shlex
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
from tests.lab.collecting import collector, counted, running
from tests.lab.project import document, edgekit, settle, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WATCHDOG_S = 5
START_S = 60
"""The most that a start takes on a busy machine."""
DELIVERED_S = 180
"""A window is of a minute, and the courier goes once a minute."""
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
ASK = f"""
import json, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
import numpy
body = json.dumps({{"inputs": numpy.load({CAMERA!r}).tolist()}}).encode()
client.sendall(b"POST /v1/models/digits:predict HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
head = client.makefile("rb").read()
assert head.split()[1] == b"200", head
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"GET /v2/models/digits HTTP/1.0\\r\\n\\r\\n")
print(json.loads(client.makefile("rb").read().partition(b"\\r\\n\\r\\n")[2])["versions"][0])
"""


@dataclass(frozen=True)
class Mode:
    """Who logs in, where edgekit's home is then, and how root asks that manager."""

    name: str
    home: str
    manager: str
    socket: str


MODES = (
    Mode("system", "/var/lib/edgekit", "systemctl", "/run/edgekit/s"),
    Mode(
        "user", f"/home/{USER}/.local/share/edgekit", f"systemctl --user --machine={USER}@", "/run/user/1000/edgekit/s"
    ),
)


@dataclass(frozen=True)
class Desk:
    """A device with a service, and two releases that it can have."""

    machine: Booted
    mode: Mode
    said: dict[str, Any]
    bundles: tuple[Bundle, Bundle]

    def show(self, unit: str = "edgekit-digits.service") -> dict[str, str]:
        """What its manager says of a unit."""
        asked = "Type,SubState,StatusText,MainPID,NRestarts,WatchdogUSec"
        done = self.machine.ssh(f"{self.mode.manager} show --property={asked} {unit}")
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

    def asked(self) -> int:
        """The release by which the server has answered; 0 where it has not."""
        done = self.machine.ssh(f"{self.mode.home}/env/bin/python -c {shlex.quote(ASK)} {self.mode.socket}")
        return 0 if done.returncode else int(done.stdout)

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


def test_the_server_is_another_service_that_takes_up_releases_by_itself(desk: Desk) -> None:
    words = ("--service", f"edgekit-runtime serve digits:5 --socket {desk.mode.socket}")
    said = document("device", "setup", desk.mode.name, "--offline", *words)
    assert said["service"]["unit"] == "edgekit.service"
    until(lambda: desk.asked() == desk.bundles[1].manifest.sequence, START_S)
    before = desk.show("edgekit.service")
    assert (before["SubState"], before["StatusText"]) == ("running", f"serving at unix:{desk.mode.socket}")
    assert before["WatchdogUSec"] == "30s"
    edgekit("push", desk.bundles[0].root, "--to", desk.mode.name, "--allow-downgrade")
    until(lambda: desk.asked() == desk.bundles[0].manifest.sequence, START_S)
    assert desk.show("edgekit.service")["MainPID"] == before["MainPID"]

    worker = desk.machine.ssh(f"pgrep -P {before['MainPID']}").stdout.strip()
    assert desk.machine.ssh(f"cat /proc/{worker}/oom_score_adj").stdout.strip() == "500"
    front_s, worker_s = map(int, desk.machine.ssh(f"ps -o ni= -p {before['MainPID']} -p {worker}").stdout.split())
    assert worker_s - front_s == 5
    desk.machine.ssh(f"kill -STOP {before['MainPID']}").check_returncode()
    until(lambda: int(desk.show("edgekit.service")["NRestarts"]), 30 + START_S)
    until(lambda: desk.asked() == desk.bundles[0].manifest.sequence, START_S)


def test_the_server_starts_anew_in_a_new_environment(desk: Desk) -> None:
    before = desk.show("edgekit.service")["MainPID"]
    document("device", "setup", desk.mode.name, "--offline")  # nothing has to be installed
    assert desk.show("edgekit.service")["MainPID"] == before
    desk.machine.ssh(f"rm {desk.mode.home}/env/complete").check_returncode()
    document("device", "setup", desk.mode.name, "--offline")
    until(lambda: desk.show("edgekit.service")["MainPID"] not in ("0", before), START_S)
    until(lambda: desk.asked() == desk.bundles[0].manifest.sequence, START_S)


@pytest.mark.parametrize("desk", MODES[:1], ids=["system"], indirect=True)
def test_the_system_s_server_is_rated_well(desk: Desk) -> None:
    rated = desk.machine.ssh("systemd-analyze security --no-pager --threshold=20 edgekit.service")
    assert not rated.returncode, rated.stdout


def test_the_courier_is_one_more_and_brings_away_what_the_others_measured(desk: Desk, project: Path) -> None:
    """Nobody has asked the device for a report: the collector has heard of its calls all the same."""
    name, unit = desk.mode.name, "edgekit.courier.service"
    said = document("device", "setup", name, "--offline", "--service", "edgekit-runtime deliver")
    assert said["service"]["unit"] == unit
    with running(collector(project)) as office:
        [enrolled] = document("collect", "enrol", name, "--url", f"https://127.0.0.1:{office.port}")["devices"]
        assert enrolled["reached"]
        until(lambda: counted().get(name), DELIVERED_S)
    assert desk.show(unit)["SubState"] == "running"
    rated = desk.machine.ssh(f"systemd-analyze security --no-pager --threshold=20 {unit}")
    assert desk.mode.name == "user" or not rated.returncode, rated.stdout


def test_it_goes_with_edgekit(desk: Desk) -> None:
    edgekit("device", "remove", desk.mode.name)
    for unit in ("edgekit-digits.service", "edgekit.service", "edgekit.courier.service"):
        assert desk.machine.ssh(f"{desk.mode.manager} cat {unit}").returncode
    assert not desk.machine.ssh("pgrep", "-f", PROGRAM.rpartition("/")[2]).stdout
