"""Pushes that are interrupted, cut off or in each other's way: the device has the old release or the new one, whole.

Bundles go to a device over a real sshd; the command runs in a process of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import IO

import onnx
import pytest

from edgekit import device as devices
from edgekit import fleet, transports
from edgekit import push as pushing
from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from tests.lab.bundles import contents, make_bundle
from tests.lab.project import EDGEKIT, INTERRUPTED, project, served_pi, until
from tests.lab.sshd import needs_sshd

__all__ = ["project", "served_pi"]  # fixtures
pytestmark = needs_sshd


@dataclass
class Lab:
    """A device with a live release, and bundles to replace it."""

    project: Path
    pi: Simulated
    numbers: Iterator[int] = field(default_factory=lambda: count(3))

    def bundle(self, padding: int = 0) -> Bundle:
        number = next(self.numbers)
        model = onnx.load_from_string(contents().model)
        model.doc_string = f"{number}" + "x" * padding  # every one has a model of its own to send
        given = replace(contents(), model=model.SerializeToString())
        return make_bundle(self.project / f"made/{number}", given, sequence=number)

    def live(self) -> str:
        """The release that is live, all its bytes checked by the device."""
        with transports.connect(self.pi.uri) as link:
            [app] = devices.call(link, "status")["apps"]
        assert app["current"]["state"]["name"] == "good"
        return str(app["current"]["digest"])

    def serves(self) -> bool:
        serving = "import edgekit_runtime as e, numpy as n; e.load('digits').predict(n.zeros((1, 1, 8, 8), 'f4'))"
        with transports.connect(self.pi.uri) as link:
            return link.run([f"{self.pi.home}/env/bin/python", "-c", serving]).status == 0

    def push(self, bundle: Bundle) -> list[str]:
        """A push that has to succeed, whatever was before it; what it told."""
        device, told = fleet.find(self.project, "pi"), list[str]()
        with transports.connect(self.pi.uri) as link:
            pushing.push(pushing.open_parcel(bundle.root), device, link, told.append)
        assert list((self.pi.home / "incoming").glob("*")) == []
        return told

    def start(self, bundle: Bundle) -> subprocess.Popen[str]:
        command = [*EDGEKIT, "push", str(bundle.root), "--to", "pi"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def lab(project: Path, served_pi: Simulated) -> Lab:
    return Lab(project, served_pi)


def last_line(told: str) -> str:
    """The one line that is no progress. (Before `interrupted` click ends the line with the ^C of the terminal.)"""
    assert "Traceback" not in told, told
    [line] = [line for line in told.splitlines() if line and not line.startswith("pi: ")]
    return line


def read_until(stream: IO[str], word: str) -> str:
    told = ""
    for line in stream:
        told += line
        if word in line:
            break
    return told


class TestControlC:
    def interrupted(self, lab: Lab, word: str, delay_s: float) -> None:
        """Ctrl-C so long after the command has said so."""
        before, bundle = lab.live(), lab.bundle()
        with lab.start(bundle) as process:
            assert process.stderr
            told = read_until(process.stderr, word)
            time.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            told += process.communicate(timeout=60)[1]
        assert lab.live() in (before, bundle.digest)
        if process.returncode:
            assert process.returncode in INTERRUPTED, told
            assert last_line(told) == "edgekit: interrupted"
        else:  # it was quicker
            assert lab.live() == bundle.digest

    @pytest.mark.parametrize(
        "word",
        [
            pytest.param("sending image", marks=pytest.mark.slow),
            pytest.param("sending manifest", marks=pytest.mark.slow),
            "sending model",
            "proving",
        ],
    )
    def test_the_old_release_or_the_new_one(self, lab: Lab, word: str) -> None:
        for delay_s in (0.0, 0.08, 0.2):
            self.interrupted(lab, word, delay_s)
        assert lab.serves()
        lab.push(lab.bundle())


def sessions(device: Simulated) -> list[int]:
    """The processes that the device's sshd has started for its connections, and theirs."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(status.parent.name)] = int(fields[1])
    found, server = [], int((device.folder / "sshd.pid").read_text())
    for pid in parents:
        above = pid
        while above in parents and above != server:
            above = parents[above]
        if above == server and pid != server:
            found.append(pid)
    return found


class TestLinkCut:
    PADDING = 12_000_000

    def cut(self, lab: Lab, moment: Callable[[], object]) -> list[str]:
        """What the push of the same bundle told that came after it."""
        before, bundle = lab.live(), lab.bundle(self.PADDING)
        with lab.start(bundle) as process:
            until(moment)
            for pid in sessions(lab.pi):
                os.kill(pid, signal.SIGKILL)
            told = process.communicate(timeout=60)[1]
        assert process.returncode == 1, told
        assert "the connection was lost" in last_line(told)
        assert last_line(told).startswith("edgekit: pi: ")
        assert lab.live() == before
        again = lab.push(bundle)
        assert lab.live() == bundle.digest
        return again

    def test_while_the_first_bytes_go_over(self, lab: Lab) -> None:
        self.cut(lab, lambda: self.arrived(lab) > 0)

    def test_in_the_middle_of_the_model(self, lab: Lab) -> None:
        """What had arrived before it does not go over again."""
        again = self.cut(lab, lambda: self.arrived(lab) > self.PADDING // 3)
        assert [line.split(",")[0] for line in again] == ["sending model", "proving on the device"]

    def arrived(self, lab: Lab) -> int:
        sizes = 0
        for file in (lab.pi.home / "incoming").glob("*/*"):
            try:
                sizes += file.stat().st_size
            except FileNotFoundError:
                continue
        return sizes


class TestAtOnce:
    def at_once(self, lab: Lab, bundles: Sequence[Bundle]) -> list[int]:
        processes = [lab.start(bundle) for bundle in bundles]
        told = [process.communicate(timeout=60)[1] for process in processes]
        statuses = [process.returncode for process in processes]
        for status, text in zip(statuses, told, strict=True):
            assert status in (0, 1), text
            if status:
                assert last_line(text).startswith("edgekit: pi: "), text
        return statuses

    def test_two_bundles(self, lab: Lab) -> None:
        for _ in range(2):
            before, bundles = lab.live(), [lab.bundle(), lab.bundle()]
            statuses = self.at_once(lab, bundles)
            done = [bundle.digest for bundle, status in zip(bundles, statuses, strict=True) if status == 0]
            assert lab.live() in (done or [before])
            assert done, "both have lost"
            lab.push(lab.bundle())

    def test_the_same_bundle(self, lab: Lab) -> None:
        for _ in range(2):
            bundle = lab.bundle()
            assert self.at_once(lab, [bundle, bundle]) == [0, 0]
            assert lab.live() == bundle.digest
            lab.push(lab.bundle())

    def test_one_waits_for_a_lock_that_is_taken(self, lab: Lab) -> None:
        bundle = lab.bundle()
        with self.locked(lab):
            process = lab.start(bundle)
            assert process.stderr
            read_until(process.stderr, "sending model")
            time.sleep(1)
            assert process.poll() is None
        told = process.communicate(timeout=60)[1]
        assert process.returncode == 0, told
        assert lab.live() == bundle.digest

    @pytest.mark.slow
    def test_a_lock_that_stays_taken_is_told(self, lab: Lab) -> None:
        before = lab.live()
        with self.locked(lab), lab.start(lab.bundle()) as process:
            told = process.communicate(timeout=60)[1]
        assert process.returncode == 1
        assert "another push or rollback is at work on this device — try again" in last_line(told)
        assert lab.live() == before
        lab.push(lab.bundle())

    @contextmanager
    def locked(self, lab: Lab) -> Iterator[None]:
        with subprocess.Popen(["flock", lab.pi.home / "lock", "cat"], stdin=subprocess.PIPE) as holder:
            assert holder.stdin
            time.sleep(0.2)
            yield
            holder.stdin.close()
