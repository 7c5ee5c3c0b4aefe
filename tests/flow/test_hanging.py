"""A device that lets us in, starts the command and never answers, among others of real SSH servers: it holds up nobody.

The figures are printed: pytest -s.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit import device as devices
from edgekit import fleet
from edgekit.fleet import Device
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import EDGEKIT, document, equip, project
from tests.lab.sshd import needs_sshd, running

__all__ = ["project"]  # a fixture

pytestmark = [needs_sshd, pytest.mark.slow]

HEALTHY = tuple(f"pole-{number}" for number in range(6))
HANGS = "pole-x"
IMPATIENT_S = 6.0
IMPATIENT = f"import edgekit.device as d; d.ANSWER_S = {IMPATIENT_S}; from edgekit.cli import main; main()"


@dataclass(frozen=True)
class Line:
    """What a command said, and how many seconds after its start."""

    at_s: float
    text: str


@pytest.fixture
def poles(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The devices in the fleet, and a bundle for them."""
    make_bundle(project / f"bundles/digits-{TARGET}")
    with ExitStack() as held:
        for name in (*HEALTHY, HANGS):
            device = held.enter_context(running(name, project / ".edgekit" / "devices"))
            fleet.add(project, Device(name, device.uri, TARGET))
            if name in HEALTHY:
                equip(device.home, tmp_path_factory.getbasetemp())
            else:
                held.callback(end, hang(device.home))
        yield


def hang(home: Path) -> Path:
    """Put a program in the runtime's place that never says a word; the file where its processes stand."""
    python, pids = home / "env" / "bin" / "python", home / "pids"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho $$ >>'{pids}'\nexec sleep 1000\n")
    python.chmod(0o755)
    return pids


def end(pids: Path) -> None:
    for pid in pids.read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def heard(*command: str) -> tuple[list[Line], int]:
    """What a command says, line by line, and its exit status."""
    started, lines = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(Line(time.monotonic() - started, line.rstrip()))
            print(f"{lines[-1].at_s:5.1f} s  {lines[-1].text}")
    return lines, process.returncode


def given_up(lines: list[Line], after_s: float) -> float:
    """When the one that hangs was; it is told in one line, and not before its time."""
    [line] = [each for each in lines if each.text.startswith(f"edgekit: {HANGS}: ")]
    assert f"did not end within {after_s:g} s — it was asked for push" in line.text
    assert after_s < line.at_s < after_s + 20
    return line.at_s


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("poles")
def test_a_push_to_all() -> None:
    lines, status = heard(*EDGEKIT, "push", "--to", "all")
    live = [line.at_s for line in lines if "is live" in line.text]
    print(f"{len(live)} healthy devices after {max(live):.1f} s")
    assert (status, len(live)) == (1, len(HEALTHY))
    assert max(live) < 30 < given_up(lines, devices.ANSWER_S)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("poles")
def test_a_rollout_in_waves() -> None:
    """The one that hangs is in the second of three: the third waits for the gate, and that for no longer than this."""
    words = ("push", "--waves", "1,5,100%", "--wait", "1s", "--max-failed", "50%")
    names = (*HEALTHY[:3], HANGS, *HEALTHY[3:])
    to = [word for name in names for word in ("--to", name)]
    lines, status = heard(sys.executable, "-c", IMPATIENT, *words, *to)
    gone = given_up(lines, IMPATIENT_S)
    live = [line.at_s for line in lines if "is live" in line.text]
    shown = document("rollout", "show")
    print(f"{[round(at_s, 1) for at_s in live]}; given up at {gone:.1f} s")
    assert (status, len(live)) == (1, len(HEALTHY))
    waves = {each["device"]: each["wave"] for each in shown["devices"]}
    assert waves[HANGS] == 2
    assert [decision["go"] for decision in shown["rollout"]["decisions"]] == [True, True, True]
    in_its_wave = [at_s for at_s in live if at_s < gone]
    assert len(in_its_wave) == sum(wave <= 2 for wave in waves.values()) - 1
    assert max(live) < gone + 15
