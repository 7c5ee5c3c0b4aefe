"""Switches: what holds after any of them in any order, and that whoever serves meanwhile is served."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import admission, logbook, probation, releases, states, switches, verify
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.errors import DeviceError
from tests.lab.project import until
from tests.runtime.bundles import APP, Parcels, contents, go_live, install, make_key, samples, try_out, weights, write


@pytest.fixture(scope="module", autouse=True)
def asked_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hundreds of times the same signature."""
    place = tmp_path_factory.mktemp("switching")
    signer = make_key(place / "key")
    Life.signer = signer
    Life.parcels = [write(place / str(n), signer, contents(n)) for n in (1, 2, 3)]


class Life(RuleBasedStateMachine):
    """A device on which anything is pushed, confirmed, rolled back, or fails, in any order."""

    signer: Signer
    parcels: list[Bundle]
    numbers = st.integers(0, 2)

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(verify, "verify", cache(verify.verify))
        self.patch.setattr(admission, "let_in", lambda *args, **options: None)
        self.patch.setattr(admission, "let_serve", lambda *args, **options: None)
        self.folder = tempfile.TemporaryDirectory()
        self.home = Path(self.folder.name)
        self.patch.setenv("EDGEKIT_HOME", str(self.home))
        (self.home / "trust").mkdir()
        (self.home / "trust" / "allowed_signers").write_text(f"{self.signer.allowed_line()}\n")
        self.refused: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()
            self.patch.undo()

    @property
    def live(self) -> str:
        return releases.pointed(self.home, APP, "current")

    @property
    def back(self) -> str:
        return releases.pointed(self.home, APP, "previous")

    def state(self, digest: str) -> str:
        return states.read(releases.folder_of(self.home, APP, digest)).name

    @rule(number=numbers)
    def push(self, number: int) -> None:
        was, back, good = self.live, self.back, self.live != "" and self.state(self.live) == "good"
        digest = try_out(self.parcels[number], self.home).digest if self.fresh(number) else self.again(number)
        assert self.live == digest
        assert self.state(digest) in states.SERVED
        if was not in ("", digest):
            assert self.back == (was if good else back)

    def fresh(self, number: int) -> bool:
        digest = self.parcels[number].digest
        return not releases.folder_of(self.home, APP, digest).is_dir() or self.state(digest) in ("installed", "bad")

    def again(self, number: int) -> str:
        release = install(self.parcels[number], self.home)
        assert release.state.name in ("proven", *states.SERVED)
        return switches.activate(self.home, APP, release.digest).digest

    @rule(number=numbers)
    def push_what_proves_wrong(self, number: int) -> None:
        if self.parcels[number].digest == self.live:
            return
        was, release = self.live, install(self.parcels[number], self.home)
        releases.judged(self.home, release, "bad", reason="differs")
        with pytest.raises(DeviceError, match="not proven"):
            switches.activate(self.home, APP, release.digest)
        assert self.live == was

    @precondition(lambda self: self.live != "")
    @rule()
    def confirm(self) -> None:
        assert switches.confirm(self.home, APP, self.live).state.name == "good"

    @precondition(lambda self: self.live != "")
    @rule()
    def rollback(self) -> None:
        left, back = self.live, self.back
        try:
            switches.rollback(self.home, APP, "no")
        except DeviceError:
            assert back in ("", left)
            assert self.live == left
        else:
            assert (self.live, self.state(left)) == (back, "bad")

    @precondition(lambda self: self.live != "")
    @rule(starts=st.integers(1, 3))
    def fail(self, starts: int) -> None:
        left, back, state = self.live, self.back, self.state(self.live)
        folder = releases.folder_of(self.home, APP, left)
        seen = logbook.change(folder, lambda book: book.failed("x") if starts == 1 else book.failed("x").failed("y"))
        probation.serving(self.home, APP)
        if state == "trial" and seen.failed_starts >= 3 and back not in ("", left):
            assert (self.live, self.state(left)) == (back, "bad")
        else:
            assert (self.live, self.state(left)) == (left, state)

    @invariant()
    def what_serves_has_been_proven_and_the_way_back_has_served_well(self) -> None:
        if not hasattr(self, "home"):
            return
        assert self.live == "" or self.state(self.live) in states.SERVED
        assert self.back == "" or self.state(self.back) == "good"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=6, stateful_step_count=15, deadline=None)


class TestLifeAtLength(Life.TestCase):
    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
    pytestmark = pytest.mark.slow


SWITCHER = """
import select, sys
from edgekit_runtime import home, releases, switches
place, (app, digest), number = home.default_home(), sys.argv[1:], 0
while not select.select([sys.stdin], [], [], 0)[0]:
    releases.mark(releases.find(place, app, digest), "proven")
    switches.activate(place, app, digest)
    switches.rollback(place, app, "on and off")
    number += 2
print(number)
"""


EACH = 20
"""Requests of one session, as one that is loaded for every request writes a report of its own each time."""


def requests(parcels: Parcels) -> list[str]:
    """Load, and predict; the versions that answered, after their answers were found right."""
    x = samples()[0]
    with edgekit_runtime.load(APP) as session:
        outputs = [session.predict(x)["y"] for _ in range(EACH)]
    return [version(output, parcels) for output in outputs]


def version(output: Any, parcels: Parcels) -> str:
    both = (parcels.one.manifest, parcels.two.manifest)
    [right] = [each.version for each in both if np.allclose(output, samples()[0] @ weights(each.sequence))]
    return right


@pytest.mark.parametrize("sessions", [16, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_no_request_fails_while_another_process_switches(home: Path, parcels: Parcels, sessions: int) -> None:
    """Four threads, each of which loads and predicts; a process that tries a release and rolls back, all the time."""
    go_live(parcels.one, home)
    install(parcels.two, home)
    pipe, words = subprocess.PIPE, [sys.executable, "-c", SWITCHER, APP, parcels.two.digest]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as switcher, ThreadPoolExecutor(4) as pool:
        until(lambda: releases.pointed(home, APP, "current") == parcels.two.digest)
        answered = list(chain(*pool.map(lambda _: requests(parcels), range(sessions))))
        assert len(answered) == sessions * EACH
        while {*answered} != {"1", "2"} and len(answered) < 40 * sessions * EACH:  # a few sessions may all see one
            answered += requests(parcels)
        switches_done = int(switcher.communicate()[0])
    assert {*answered} == {"1", "2"}
    print(f"{len(answered)} requests of {len(answered) // EACH} sessions during {switches_done} switches, none failed")
