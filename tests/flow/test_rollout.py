"""Rollouts to real SSH servers whose devices decide for themselves, and to builds that are older."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgekit import fleet, simulate, transports
from edgekit.cli.places import DEVICES
from edgekit.fleet import Device
from edgekit.lab import sshd
from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import EDGEKIT, copy_of_served, document, edgekit, project
from tests.lab.sshd import needs_sshd, running

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_sshd]

NAMES = ("pi-1", "pi-2", "pi-3")
NOW = ("--wait", "0")
WAIT_S = 12
CRASH = "import os, edgekit_runtime; edgekit_runtime.load('digits'); os._exit(1)"
START = "import edgekit_runtime; edgekit_runtime.load('digits').close()"
Pis = dict[str, Simulated]


@pytest.fixture
def pis(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pis]:
    """Three devices behind real SSH servers; each serves the second release, and had the first before."""
    with ExitStack() as held:
        found = {name: held.enter_context(running(name, project / DEVICES)) for name in NAMES}
        for device in found.values():
            copy_of_served(device.home, tmp_path_factory.getbasetemp())
            fleet.add(project, Device(device.name, device.uri, TARGET))
        yield found


@pytest.fixture
def releases(pis: Pis, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> tuple[Bundle, Bundle]:
    """The two that each device has had, older first."""
    _, first, second = copy_of_served(tmp_path / "copy", tmp_path_factory.getbasetemp())
    return first, second


def live(*names: str) -> list[str]:
    """What each device serves, by its digest."""
    return [each["apps"][0]["current"]["digest"] for each in document("status", *names)["devices"]]


def program(device: Simulated, code: str) -> None:
    """A program of the device's own, which loads the app."""
    with transports.connect(device.uri) as link:
        link.run([f"{device.home}/env/bin/python", "-c", code])


def outcomes(shown: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["device"], each["outcome"]) for each in shown["devices"]]


def test_a_canary_that_goes_back_by_itself_while_the_rollout_looks_on(
    project: Path, pis: Pis, releases: tuple[Bundle, Bundle]
) -> None:
    _, second = releases
    third = make_bundle(project / "third", sequence=3, version="1.3")
    words = ("push", third.root, "--to", "all", "--waves", "1,100%", "--wait", f"{WAIT_S}s")
    with subprocess.Popen([*EDGEKIT, *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as pushing:
        assert pushing.stderr
        assert any(line == f"looking on for {WAIT_S} s\n" for line in pushing.stderr)
        assert live("pi-1") == [third.digest]
        for code in (CRASH, CRASH, CRASH, START):
            program(pis["pi-1"], code)
        assert pushing.poll() is None, "the wait was over too soon"
        said = pushing.stderr.read().splitlines()
    assert pushing.returncode == 3
    reason = "pi-1: the device left the release by itself: 3 starts failed"
    assert said[-1].startswith("edgekit: rollout 1: 0 of 1 devices passed, 1 failed, 0 offline; halted: ")
    assert f"; {reason} — " in said[-1]
    shown = document("rollout", "show")
    assert outcomes(shown) == [("pi-1", "failed"), ("pi-2", "waiting"), ("pi-3", "waiting")]
    assert (shown["rollout"]["state"], shown["rollout"]["decisions"][-1]["reasons"][-1]) == ("halted", reason)
    assert live(*NAMES) == [second.digest] * 3
    assert document("why", "pi-1")["apps"][0]["left"]["code"] == "failed_starts"

    assert "pi-1: back at the release before" in edgekit("rollout", "abort", "--rollback").stdout
    assert live(*NAMES) == [second.digest] * 3


def test_an_older_build_is_let_in_on_every_device_also_by_a_resume_and_noted_there(
    project: Path, pis: Pis, releases: tuple[Bundle, Bundle]
) -> None:
    """One device is off at first, and the host is interrupted; nothing has to be said again."""
    first, _ = releases
    sshd.halt(pis["pi-3"].folder)
    words = ("push", first.root, "--to", "all", "--waves", "1,1,100%", *NOW)
    refused = document(*words, status=3)["devices"][0]["error"]
    assert (refused["code"], "--allow-downgrade" in refused["hint"]) == ("downgrade", True)
    assert '"downgrade allowed"' not in (pis["pi-1"].home / "audit.log").read_text()

    with subprocess.Popen([*EDGEKIT, *words, "--allow-downgrade"], stderr=subprocess.PIPE, text=True) as pushing:
        assert pushing.stderr
        assert any(line.startswith("wave 1: 1 of 1") for line in pushing.stderr)
        os.kill(pushing.pid, signal.SIGKILL)
    assert outcomes(document("rollout", "show"))[2] == ("pi-3", "waiting")
    assert outcomes(document("rollout", "resume", status=1))[1:] == [("pi-2", "done"), ("pi-3", "offline")]
    simulate.start("pi-3", project / DEVICES)
    resumed = document("rollout", "resume")
    assert (resumed["rollout"]["allow_downgrade"], outcomes(resumed)[2]) == (True, ("pi-3", "done"))
    assert "; older builds allowed\n" in edgekit("rollout", "show").stdout
    assert live(*NAMES) == [first.digest] * 3
    for device in pis.values():
        told = [json.loads(line) for line in (device.home / "audit.log").read_text().splitlines()]
        [allowed] = [line for line in told if line["what"] == "downgrade allowed"]
        assert (allowed["digest"], allowed["sequence"], allowed["highest"]) == (first.digest, 1, 2)


def test_a_build_of_a_host_whose_clock_was_ahead(project: Path, pis: Pis) -> None:
    """The next one is refused with what to do, and let in when that was done."""
    ahead, now = 4_000_000_000, 1_790_000_000
    edgekit("push", make_bundle(project / "ahead", sequence=ahead, version="1.3").root, "--to", "pi-1")
    later = make_bundle(project / "later", sequence=now, version="1.4")
    error = document("push", later.root, "--to", "pi-1", status=1)["devices"][0]["error"]
    assert error["code"] == "downgrade"
    assert "built at 2096-10-02T07:06:40Z, and here it is 20" in error["hint"]
    assert "remove apps/digits/highest in the device's home" in error["hint"]
    (pis["pi-1"].home / "apps/digits/highest").unlink()
    assert document("push", later.root, "--to", "pi-1")["devices"][0]["release"] == later.digest
