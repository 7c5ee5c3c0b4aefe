"""Pushes that are interrupted, cut off or in each other's way: the device has the old release or the new one, whole.

Bundles go to a device over a real sshd; the command runs in a process of its own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from tests.lab.project import INTERRUPTED, project, served_pi, until
from tests.lab.pushes import Attempt, Lab, hold
from tests.lab.sshd import needs_sshd, sessions

__all__ = ["project", "served_pi"]  # fixtures
pytestmark = [needs_sshd, pytest.mark.slow]


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
            "sending image",
            "sending manifest",
            "sending model",
            "proving",
        ],
    )
    def test_the_old_release_or_the_new_one(self, lab: Lab, word: str) -> None:
        for delay_s in (0.0, 0.08, 0.2):
            self.interrupted(lab, word, delay_s)
        assert lab.serves()
        lab.push(lab.bundle())


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
        begun = [
            line.split(",")[0] for line in again if "%" not in line
        ]  # without how far it is, where that takes long
        assert begun == ["sending model", "proving on the device"]

    def arrived(self, lab: Lab) -> int:
        sizes = 0
        for file in (lab.pi.home / "incoming").glob("*/*"):
            try:
                sizes += file.stat().st_size
            except FileNotFoundError:
                continue
        return sizes


class TestKilled:
    """EDGEKIT_KILLS=1000 make test-slow ARGS="tests/flow/test_push_cut_short.py -k Killed -s"."""

    KILLS = int(os.environ.get("EDGEKIT_KILLS", "12"))

    @pytest.mark.timeout(120 + 10 * KILLS)
    def test_the_old_release_or_the_new_one_and_the_next_push_succeeds(
        self, lab: Lab, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Attempt(lab, lab.bundle()) as whole:
            pass
        assert whole.error is None
        chance, seen = random.Random(1), Counter[str]()
        for number in range(self.KILLS):
            before, moment = lab.live(), chance.uniform(0, whole.seconds * 1.1)
            with Attempt(lab, lab.bundle(number)) as attempt:
                time.sleep(moment)
                self.kill(lab, chance.choice((runtimes, sessions)))
            seen[hold(lab, before, attempt)] += 1
        with capsys.disabled():
            print(f"\n{self.KILLS} kills within {whole.seconds:.1f} s of a push: {dict(seen)}, no other state")

    def test_the_shell_and_not_the_runtime_in_it(self, lab: Lab) -> None:
        """Sshd ends the runtime's input then, and hears what it says."""
        before, bundle = lab.live(), lab.bundle()
        with lab.start(bundle) as process:
            until(lambda: any(words[0].endswith("python") for words in running(lab.pi).values()))
            self.kill(lab, lambda pi: [pid for pid, words in running(pi).items() if words[0].endswith("sh")])
            told = process.communicate(timeout=60)[1]
        assert process.returncode == 1, told
        assert last_line(told).startswith("edgekit: pi: the device's push was cut off from this host")
        assert lab.live() == before
        lab.push(bundle)

    def kill(self, lab: Lab, choose: Callable[[Simulated], list[int]]) -> None:
        for pid in choose(lab.pi):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def runtimes(device: Simulated) -> list[int]:
    """The runtime's processes among them, and the shells that they run in."""
    return [pid for pid, words in running(device).items() if any("edgekit_runtime" in word for word in words)]


def running(device: Simulated) -> dict[int, list[str]]:
    """The command line of each of them."""
    found = {}
    for pid in sessions(device):
        with suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return found


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
        command, pipe = ["flock", lab.pi.home / "lock", "sh", "-c", "echo held; cat"], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:
            assert holder.stdin and holder.stdout
            assert holder.stdout.readline() == b"held\n"
            yield
            holder.stdin.close()
