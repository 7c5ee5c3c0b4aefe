"""Rollouts to real devices: folders of this machine that each serve two releases, and one that nobody reaches."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from shutil import copytree

import pytest

from edgekit import device as devices
from edgekit import fleet, transports
from edgekit.fleet import Device
from tests.lab.bundles import TARGET, make_bundle, of_another_model
from tests.lab.project import EDGEKIT, Served, document, edgekit, project, served

__all__ = ["project", "served"]  # fixtures

NOW = ("--wait", "0")
BACK = "--allow-downgrade"


def another(name: str, project: Path, served: Served) -> Device:
    """A device like the one that serves."""
    copytree(served.home, project / name, symlinks=True)
    device = Device(name, f"local:{project / name}", TARGET, ("site=berlin",))
    fleet.add(project, device)
    return device


def live(project: Path, *names: str) -> set[str]:
    """The digests that are live on devices."""
    found = set()
    for name in names:
        with transports.connect(f"local:{project / name}") as link:
            found.add(str(devices.call(link, "status")["apps"][0]["current"]["digest"]))
    return found


@pytest.mark.slow
def test_canary_then_the_rest_then_who_was_offline_and_all_of_them_back(project: Path, served: Served) -> None:
    with transports.connect(served.device.uri) as link:
        devices.call(link, "confirm", "digits")
    home = copytree(served.home, project / "confirmed", symlinks=True)
    another("gate", project, served)
    fleet.add(project, Device("gone", "ssh://pi@127.0.0.1:1", TARGET))
    ran = edgekit("push", served.first.root, "--to", "all", "--waves", "1", *NOW, BACK, status=1)
    assert [line for line in ran.stderr.splitlines() if not line.startswith("edgekit: ")] == [
        "rollout 1: 3 devices",
        "wave 1 of 2: desk",
        "wave 1: 1 of 1 devices passed, 0 failed, 0 offline",
        "wave 2 of 2: gate, gone",
        "wave 2: 1 of 2 devices passed, 0 failed, 1 offline",
    ]
    assert "gone: pi@127.0.0.1:1: connection refused" in ran.line
    assert live(project, "desk", "gate") == {served.first.digest}

    copytree(home, project / "gone", symlinks=True)
    fleet.add(project, Device("gone", f"local:{project / 'gone'}", TARGET), replace=True)
    resumed = edgekit("rollout", "resume")
    assert {line.partition(":")[0] for line in resumed.stdout.splitlines()} == {"gone"}
    assert "0.0 KiB of" in resumed.stdout
    shown = edgekit("rollout", "show").stdout.splitlines()
    assert shown[0] == "rollout 1: done; waves of 1, 2; wait 0 s; older builds allowed"
    assert shown[-1].startswith("wave 2: go on: 2 of 2 devices passed")

    aborted = edgekit("rollout", "abort", "--rollback")
    assert sorted(aborted.stdout.splitlines()) == [
        *(f"{name}: back at the release before" for name in ("desk", "gate", "gone")),
        "rollout 1: aborted",
    ]
    assert live(project, "desk", "gate", "gone") == {served.second.digest}
    assert "rollout 1 was aborted" in edgekit("rollout", "resume", status=2).line


@pytest.mark.slow
def test_a_bundle_that_is_wrong_stops_at_the_canary(project: Path, served: Served) -> None:
    another("gate", project, served)
    make_bundle(project / "bad", of_another_model(), sequence=9)
    ran = edgekit("push", "bad", "--to", "all", "--waves", "1", *NOW, status=3)
    assert "edgekit: rollout 1: 0 of 1 devices passed, 1 failed, 0 offline; halted: any failure" in ran.stderr
    shown = document("rollout", "show")
    assert [(each["device"], each["outcome"]) for each in shown["devices"]] == [
        ("desk", "failed"),
        ("gate", "waiting"),
    ]
    assert shown["devices"][0]["error"]["code"] == "proof_failed"
    assert shown["rollout"]["state"] == "halted"
    assert live(project, "desk", "gate") == {served.second.digest}


def test_what_cannot_be_is_told_before_a_device_is_touched(project: Path, served: Served) -> None:
    fleet.add(project, Device("gate", "local:/nowhere", "raspberry-pi-5", ("site=berlin",)))
    for words, told in (
        (["--to", "all"], "gate: the bundle is for"),
        (["--to", "desk", "--waves", "x"], "'x' is no wave — write waves as 1,10%,100%"),
        (["--to", "desk", "--executor", "x://y"], "'x://y' is no executor — write dask://HOST:PORT"),
    ):
        ran = edgekit("push", served.first.root, *words, status=1 if "bundle" in told else 2)
        assert told in ran.line
    assert "no rollout of the project in" in edgekit("rollout", "show", status=2).line


def test_a_selector_says_whom_to_ask(project: Path, served: Served) -> None:
    another("gate", project, served)
    assert [each["device"] for each in document("status", "site=berlin")["devices"]] == ["gate"]


@pytest.mark.slow
def test_an_interruption_begins_no_more_and_a_resume_carries_on(project: Path, served: Served) -> None:
    for number in range(4):
        another(f"d{number}", project, served)
    words = ("push", served.first.root, "--to", "desk", "--to", "all", "--waves", "1", *NOW, BACK)
    with subprocess.Popen([*EDGEKIT, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert any(line.startswith("wave 1 of 2") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=100)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "edgekit: interrupted"
    assert {each["outcome"] for each in document("rollout", "show")["devices"][1:]} == {"waiting"}
    edgekit("rollout", "resume")
    assert live(project, "desk", "d0", "d1", "d2", "d3") == {served.first.digest}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_host_that_is_killed_at_random_moments(project: Path, served: Served) -> None:
    """However often: what is started again goes on, no device is left half way, each is pushed to."""
    names = ["desk", *(f"d{number}" for number in range(5))]
    for name in names[1:]:
        another(name, project, served)
    chance = random.Random(7)
    words: tuple[str | Path, ...] = ("push", served.first.root, "--to", "all", "--waves", "1,50%", *NOW, BACK)
    kills = 0
    for attempt in range(40):
        with subprocess.Popen(
            [*EDGEKIT, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            try:
                process.wait(chance.uniform(0.3, 0.6 + attempt / 4) if attempt < 39 else 300)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        if process.returncode == 0:
            break
        assert live(project, *names) <= {served.first.digest, served.second.digest}
        if edgekit_knows_one():
            words = ("rollout", "resume")
    assert process.returncode == 0
    assert kills >= 3
    assert live(project, *names) == {served.first.digest}
    shown = document("rollout", "show")
    assert {each["outcome"] for each in shown["devices"]} == {"done"}
    assert shown["rollout"]["id"] == 1


def edgekit_knows_one() -> bool:
    time.sleep(0.2)
    return subprocess.run([*EDGEKIT, "rollout", "show"], capture_output=True, check=False).returncode == 0
