"""A release on trial: what programs that serve it make of it, on this device alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import blackbox, logbook, processes, releases, service, states, switches, verify
from edgekit_runtime.bundle import blob_path
from edgekit_runtime.errors import DigestMismatch, EdgekitError, EngineError, EngineNotInstalled, InvalidInput
from edgekit_runtime.probation import Probation, facts
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.releases import Release
from edgekit_runtime.spool import Spool
from edgekit_runtime.trial import LEAVE, Decision
from edgekit_runtime.windows import Window
from tests.runtime.bundles import APP, Parcels, contents, go_live, samples, serves, try_out, write
from tests.runtime.powercut import Loss, failing

X = samples()[0]


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time the same signatures."""
    monkeypatch.setattr(verify, "verify", VERIFIED)


VERIFIED = cache(verify.verify)


def serve(calls: int, wrong: int = 0) -> None:
    """What a program does that ends as it should."""
    with edgekit_runtime.load(APP) as session:
        for _ in range(calls):
            session.predict(X)
        for _ in range(wrong):
            with pytest.raises(InvalidInput):
                session.predict(X[0])


def program(code: str) -> list[str]:
    """Another program that serves, and then does something else."""
    text = f"import edgekit_runtime, os, sys\ns = edgekit_runtime.load({APP!r})\n{code}"
    return [sys.executable, "-c", text]


def ran(code: str) -> int:
    """Its exit status."""
    return subprocess.run(program(code), capture_output=True, check=False, timeout=60).returncode


def killed() -> None:
    assert ran("os.kill(os.getpid(), 9)") == -9


@contextmanager
def alive(number: int) -> Iterator[None]:
    """Programs that serve for as long as the block runs, and are killed then."""
    with ExitStack() as stack:
        pipe, code = subprocess.PIPE, "print('up', flush=True)\nsys.stdin.read()"
        others = [
            stack.enter_context(subprocess.Popen(program(code), stdin=pipe, stdout=pipe, text=True))
            for _ in range(number)
        ]
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "up\n"
        yield
        for other in others:
            other.kill()


def state(home: Path, parcel: Any) -> tuple[str, str]:
    found = releases.find(home, APP, parcel.digest).state
    return found.name, found.code


def events(home: Path) -> list[str]:
    return [event.what for event in blackbox.read(home, APP)]


class TestConfirmed:
    def test_by_a_hundred_inferences_of_one_session(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        try_out(parcels.two, home)
        serve(100)
        assert state(home, parcels.two) == ("good", "")
        assert (blackbox.read(home, APP)[-1].what, blackbox.read(home, APP)[-1].code) == ("confirmed", "served")

    def test_by_those_of_many_sessions(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        for _ in range(4):
            serve(24)
        found = facts(home, release)
        assert (found.calls, found.failed_starts, found.has_previous) == (96, 0, False)
        assert state(home, parcels.one)[0] == "trial"
        serve(4)
        assert state(home, parcels.one)[0] == "good"

    def test_by_time(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        logbook.change(release.folder, lambda book: replace(book, seconds=600))
        serve(1)
        assert state(home, parcels.one)[0] == "good"

    def test_by_a_window_while_it_serves(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        spool = Spool(home / "reports" / APP)
        recorder = Recorder(spool, APP, release.digest, 0.02, probation=Probation(home, release))
        for _ in range(100):
            recorder.record(0, 1000, 0)
        until = time.monotonic() + 60
        while state(home, parcels.one)[0] == "trial" and time.monotonic() < until:
            time.sleep(0.01)
        assert state(home, parcels.one)[0] == "good"
        recorder.close()

    def test_by_hand_and_once(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        for _ in range(2):
            assert switches.confirm(home, APP, release.digest).state.name == "good"
        assert events(home) == ["activated", "confirmed"]

    def test_what_a_good_release_does_is_not_written_down(self, home: Path, parcels: Parcels) -> None:
        release = go_live(parcels.one, home)
        serve(5, wrong=30)
        killed()
        assert not (release.folder / logbook.FILE).exists()
        assert state(home, parcels.one)[0] == "good"


class TestLeft:
    def test_after_three_starts_that_were_killed(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        for number in range(3):
            assert facts(home, release).failed_starts == max(0, number - 1)  # the last one is counted by the next
            killed()
        assert serves(parcels.one)
        assert state(home, parcels.two) == ("bad", "failed_starts")
        assert events(home)[-4:] == ["start_failed"] * 3 + ["rolled_back"]
        assert "ended without closing its session" in blackbox.read(home, APP)[-2].reason
        assert releases.find(home, APP, parcels.two.digest).state.reason == "3 starts failed"

    def test_a_crash_says_where_it_was(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        assert ran("s.predict\nos.kill(os.getpid(), 11)") == -11
        serve(0)
        tail = blackbox.read(home, APP)[-1].tail
        assert tail[0] == "Fatal Python error: Segmentation fault"
        assert '  File "<string>", line 4 in <module>' in tail
        assert not list(release.folder.glob("crash-*"))
        assert ran("s.close()") == ran("s.predict") == 0
        assert not list(release.folder.glob("crash-*"))

    def test_after_three_errors_that_ended_the_program(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        try_out(parcels.two, home)
        for _ in range(3):
            with pytest.raises(KeyError), edgekit_runtime.load(APP) as session:
                session.predict(X)["scores"]
        assert serves(parcels.one)
        told = blackbox.read(home, APP)[-2]
        assert (told.what, told.reason) == ("start_failed", "KeyError: 'scores'")
        assert any('session.predict(X)["scores"]' in line for line in told.tail)

    def test_after_errors_that_nobody_caught(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        assert ran("raise RuntimeError('the camera is gone')") == 1
        assert facts(home, release).failed_starts == 1
        assert "the camera is gone" in blackbox.read(home, APP)[-1].tail[-1]

    def test_when_its_model_does_not_load(self, home: Path, parcels: Parcels, signer: Signer, tmp_path: Path) -> None:
        go_live(parcels.one, home)
        junk = write(tmp_path / "junk", signer, replace(contents(2), model=b"junk"))
        try_out(junk, home)
        for _ in range(3):
            with pytest.raises(EngineError, match="cannot load the model"):
                edgekit_runtime.load(APP)
        assert serves(parcels.one)
        assert state(home, junk) == ("bad", "failed_starts")

    def test_when_it_takes_none_of_the_inputs(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        try_out(parcels.two, home)
        serve(0, wrong=20)
        assert state(home, parcels.two) == ("bad", "error_rate")
        assert serves(parcels.one)

    def test_while_it_serves_and_its_service_starts_anew(
        self, home: Path, parcels: Parcels, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restarted: list[str] = []
        monkeypatch.setattr(service, "restart", lambda home, app: restarted.append(app))
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        watch = Probation(home, release)
        for _ in range(2):
            watch.window(Window(APP, release.digest, "s", 0, 0.0, 60.0, errors={"engine": 20}))
        assert state(home, parcels.two) == ("bad", "error_rate")
        assert restarted == [APP]
        assert serves(parcels.one)

    def test_when_it_is_slower_than_its_budget(
        self, home: Path, parcels: Parcels, signer: Signer, tmp_path: Path
    ) -> None:
        go_live(parcels.one, home)
        slow = write(tmp_path / "slow", signer, contents(2, budget={"max_p95_ms": 1e-4}))
        try_out(slow, home)
        serve(99)
        assert state(home, slow)[0] == "trial"
        serve(1)
        assert state(home, slow) == ("bad", "latency")
        assert "the budget is 0.0001 ms" in releases.find(home, APP, slow.digest).state.reason

    def test_in_the_end_where_the_power_went_between_marking_it_and_leaving_it(
        self, home: Path, parcels: Parcels
    ) -> None:
        go_live(parcels.one, home)
        releases.mark(try_out(parcels.two, home), "bad", code="latency", reason="slow")
        assert serves(parcels.one)
        assert state(home, parcels.two) == ("bad", "latency")
        releases.mark(releases.current(home, APP), "bad")
        assert serves(parcels.one)  # there is no other

    def test_it_comes_back_when_it_is_pushed_again_and_starts_anew(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        try_out(parcels.two, home)
        serve(0, wrong=20)
        release = try_out(parcels.two, home)
        assert (release.state.name, release.state.reason, release.state.code) == ("trial", "", "")
        assert facts(home, release).calls == 0
        serve(100)
        assert state(home, parcels.two)[0] == "good"


class TestStays:
    def test_where_a_way_back_that_was_cut_short_has_ended_and_another_trial_begun(
        self, home: Path, parcels: Parcels
    ) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        late = Decision(LEAVE, "by_hand", "of the trial before")
        assert switches.leave(home, release.folder, "bad", late).digest == parcels.two.digest
        assert state(home, parcels.two)[0] == "trial"

    def test_without_a_release_to_go_back_to_and_says_so(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        serve(0, wrong=30)
        for _ in range(3):
            with pytest.raises(RuntimeError), edgekit_runtime.load(APP):
                raise RuntimeError
        assert serves(parcels.one)
        assert state(home, parcels.one)[0] == "trial"
        assert facts(home, release).failed_starts == 3

    def test_when_the_release_before_is_damaged(self, home: Path, parcels: Parcels) -> None:
        before = go_live(parcels.one, home)
        try_out(parcels.two, home)
        (before.folder / "model.onnx").write_bytes(b"x")
        serve(0, wrong=30)
        assert serves(parcels.two)
        assert state(home, parcels.two)[0] == "trial"

    def test_with_starts_that_end_well(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        for _ in range(5):
            serve(0)
        assert ran("s.predict") == 0  # closes when the program ends
        assert (facts(home, release).failed_starts, logbook.read(release.folder).starts) == (0, {})
        assert state(home, parcels.two)[0] == "trial"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InvalidInput("x"), EngineNotInstalled("x")])
    def test_with_ends_that_say_nothing_of_it(self, home: Path, parcels: Parcels, error: Any) -> None:
        release = try_out(parcels.one, home)
        with pytest.raises((KeyboardInterrupt, SystemExit, EdgekitError)), edgekit_runtime.load(APP):
            raise error
        assert facts(home, release).failed_starts == 0

    def test_while_others_are_alive(self, home: Path, parcels: Parcels) -> None:
        """Programs that run are no failed starts, however many, and whoever loads meanwhile."""
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        with alive(2):
            sessions = [edgekit_runtime.load(APP) for _ in range(3)]
            assert sorted(logbook.read(release.folder).starts.values()) == [1, 1, 3]
            assert facts(home, release).failed_starts == 0
        assert serves(parcels.two)
        assert facts(home, release).failed_starts == 2
        for session in sessions:
            session.close()
        assert state(home, parcels.two)[0] == "trial"

    def test_when_a_program_is_killed_that_has_served_for_a_while(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        watch = Probation(home, release)
        watch._began -= 61
        watch.window(Window(APP, release.digest, "s", 0, 0.0, 61.0))
        assert logbook.read(release.folder).starts == {}
        watch.blame(RuntimeError())
        watch.closed()
        assert facts(home, release).failed_starts == 0

    def test_under_a_trial_that_another_session_ended(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        with edgekit_runtime.load(APP) as session:
            switches.rollback(home, APP, "no")
            for _ in range(100):
                session.predict(X)
        assert state(home, parcels.two) == ("bad", "by_hand")
        assert logbook.read(release.folder).buckets == {}


class TestDisk:
    def test_an_inference_writes_nothing(self, home: Path, parcels: Parcels, tmp_path: Path) -> None:
        try_out(parcels.one, home)
        with edgekit_runtime.load(APP) as session, failing(home, tmp_path / "backup", "killed", None) as disk:
            for _ in range(300):
                session.predict(X)
            assert disk.calls == 0

    @pytest.mark.parametrize(
        ("loss", "stop"),
        [("disk full", 1), ("disk full", 9), ("read-only", 1), ("read-only", 12), ("error", 3), ("error", 20)],
    )
    def test_a_disk_that_refuses_does_not_keep_it_from_serving(
        self, home: Path, parcels: Parcels, tmp_path: Path, loss: Loss, stop: int
    ) -> None:
        go_live(parcels.one, home)
        try_out(parcels.two, home)
        with failing(home, tmp_path / "backup", loss, stop):
            assert serves(parcels.two)
            serve(50)
        serve(100)
        assert state(home, parcels.two)[0] == "good"

    def test_a_logbook_that_is_damaged_begins_anew(self, home: Path, parcels: Parcels) -> None:
        release = try_out(parcels.one, home)
        for data in (b"", b"\0" * 99, b"{}", b"[1]", b'{"failed_starts": -1}'):
            (release.folder / logbook.FILE).write_bytes(data)
            assert facts(home, release).calls == 0
            serve(1)
            assert facts(home, release).calls == 1

    @pytest.mark.parametrize("part", ["image", "config"])
    def test_a_damaged_release_on_trial_is_left_at_once(self, home: Path, parcels: Parcels, part: str) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        digest = release.digest if part == "image" else release.bundle.config.digest
        blob_path(home, digest).write_bytes(b"x")
        assert serves(parcels.one)
        found = states.read(release.folder)
        assert (found.name, found.code) == ("bad", "damaged")

    def test_a_damaged_model_on_trial_goes_back(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        release = try_out(parcels.two, home)
        (release.folder / "model.onnx").write_bytes(b"x")
        for _ in range(3):
            with pytest.raises(DigestMismatch):
                edgekit_runtime.load(APP)
        assert serves(parcels.one)


def test_a_process_is_told_from_others() -> None:
    me = processes.myself()
    assert processes.runs(me)
    assert processes.runs(processes.UNKNOWN)
    boot, pid, ticks = me.split("-")
    assert not processes.runs(f"{boot}-{pid}-{int(ticks) + 1}")
    assert not processes.runs(f"00000000-{pid}-{ticks}")
    with subprocess.Popen(["sleep", "60"]) as child:
        name = f"{boot}-{child.pid}-{processes.started(child.pid)}"
        assert processes.runs(name)
        child.kill()
    assert not processes.runs(name)


def test_inputs_that_do_not_fit_are_errors_where_none_did() -> None:
    errors = {"engine": 2, "invalid_input": 30}
    assert logbook.Logbook(buckets={700: 1}, errors=errors).facts(has_previous=True).errors == 2
    assert logbook.Logbook(errors=errors).facts(has_previous=True).errors == 32


def test_a_logbook_is_read_as_it_was_written(home: Path, parcels: Parcels) -> None:
    release: Release = try_out(parcels.one, home)
    book = logbook.Logbook(2, {"a-1-2": 3}, 1.5, {700: 4}, {"engine": 2})
    assert logbook.change(release.folder, lambda _: book) == logbook.read(release.folder) == book
