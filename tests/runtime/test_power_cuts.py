"""A device runs the old release or the new one, whatever system call of a switch is the last one, or fails."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from edgekit_runtime import blackbox, logbook, probation, releases, session, states, switches, verify
from edgekit_runtime.bundle import Bundle, blob_path
from tests.runtime.bundles import APP, Parcels, computes, go_live, send, take_in, try_out
from tests.runtime.powercut import CUTS, REFUSALS, Disk, Loss, failing

ROLLBACK = "rollback"


def push(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    """As a host has it done; the transport syncs nothing."""
    place = send(parcel, home)
    if disk:
        for arrived in place.iterdir():
            disk.not_synced(arrived)
    release = releases.mark(take_in(parcel, home, place), "proven")
    switches.activate(home, APP, release.digest)


def rollback(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    switches.rollback(home, APP, "because")


def confirm(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    switches.confirm(home, APP, releases.pointed(home, APP, "current"))


def fail(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    """The third start has failed, and the next one comes."""
    release = releases.current(home, APP)
    if release.state.name == "trial":
        logbook.change(release.folder, lambda book: replace(book, failed_starts=3))
    probation.serving(home, APP)


def refuse(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    """The release before is pushed again, and proves wrong here by now."""
    folders = (home / "apps" / APP / "releases").iterdir()
    (other,) = (f"sha256:{folder.name}" for folder in folders if folder.name != parcel.digest[7:])
    releases.judged(home, releases.find(home, APP, other), "bad", reason="because")


@dataclass(frozen=True)
class Journey:
    """Releases that go live first, and one that is tried then; the step that is cut, from the old to the new one."""

    before: tuple[str, ...]
    step: Callable[..., None]
    old: str | None
    new: str
    tried: str | None = None


JOURNEYS = {
    "first push": Journey((), push, None, "one"),
    "next push": Journey(("one",), push, "one", "two"),
    "rollback": Journey(("one", "two"), rollback, "two", "one"),
    "confirm": Journey(("one",), confirm, "two", "two", "two"),
    "failed trial": Journey(("one",), fail, "two", "one", "two"),
    "push during a trial": Journey((), push, "one", "two", "one"),
    "push after a rollback": Journey(("one", "two", ROLLBACK), push, "one", "two"),
    "proof that fails": Journey(("one", "two"), refuse, "two", "two"),
}
QUICK = ("next push", "rollback", "failed trial")


@dataclass(frozen=True)
class Scene:
    """A journey on a home that can be set back to its start."""

    journey: Journey
    parcels: Parcels
    home: Path
    start: Path

    @property
    def new(self) -> Bundle:
        parcel: Bundle = getattr(self.parcels, self.journey.new)
        return parcel

    @property
    def old(self) -> Bundle | None:
        return getattr(self.parcels, self.journey.old) if self.journey.old else None

    @property
    def live(self) -> Bundle | None:
        known = {parcel.digest: parcel for parcel in (self.parcels.one, self.parcels.two)}
        return known.get(releases.pointed(self.home, APP, "current"))

    @property
    def stands(self) -> tuple[str, ...]:
        """The pointers, and the states of all releases."""
        pointers = [releases.pointed(self.home, APP, pointer) for pointer in ("current", "previous")]
        folders = sorted(self.home.glob("apps/*/releases/*"))
        return (*pointers, *(states.read(folder).name for folder in folders))

    def go(self, loss: Loss, stop: int | None) -> Disk:
        """The step from the start, on a disk that fails at the n-th call."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.start, self.home, symlinks=True)
        return self.again(loss, stop)

    def again(self, loss: Loss = "killed", stop: int | None = None) -> Disk:
        """The step from where things stand."""
        with failing(self.home, self.start.with_name("backup"), loss, stop) as disk:
            try:
                self.journey.step(self.home, self.new, disk)
            except OSError:
                assert loss in REFUSALS
        return disk

    def check(self, *allowed: Bundle | None) -> None:
        """One of these is live and serves; under every final name is what belongs there."""
        assert self.live in allowed
        assert releases.apps(self.home) == ([APP] if self.live else [])
        if self.live:
            with session.of_bundle(releases.current(self.home, APP).bundle) as serving:
                assert computes(serving, self.live)
        back = releases.pointed(self.home, APP, "previous")
        if back:
            before = releases.find(self.home, APP, back)
            before.bundle.check()
            assert before.state.name == "good"
        for path in (self.home / "blobs" / "sha256").glob("[!.]*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        for path in self.home.glob("apps/*/releases/*/[!.]*"):
            check_part(self.home, path)
        for line in self.home.glob("apps/*/blackbox.ndjson"):
            assert len(blackbox.read(self.home, APP)) == len(line.read_text().splitlines())

    def left_over(self) -> list[Path]:
        """(What is left of an event goes with the next one.)"""
        return [path for path in self.home.rglob(".*.tmp") if blackbox.FILE not in path.name]


def check_part(home: Path, path: Path) -> None:
    data = path.read_bytes()
    if path.name == "state.json":
        assert json.loads(data)["name"] in ("installed", "proven", "trial", "good", "bad")
    elif path.name == logbook.FILE:
        logbook.parse(data)
    elif path.name == "signature":
        assert data.endswith(b"-----END SSH SIGNATURE-----\n")
    else:
        assert blob_path(home, f"sha256:{hashlib.sha256(data).hexdigest()}").exists()


@pytest.fixture(params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in JOURNEYS])
def scene(
    request: pytest.FixtureRequest, parcels: Parcels, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    journey = JOURNEYS[request.param]
    monkeypatch.setattr(verify, "verify", cache(verify.verify))  # hundreds of times the same question
    for name in journey.before:
        switches.rollback(home, APP, "") if name == ROLLBACK else go_live(getattr(parcels, name), home)
    if journey.tried:
        try_out(getattr(parcels, journey.tried), home)
    home.rename(tmp_path / "start")
    return Scene(journey, parcels, home, tmp_path / "start")


def cut_everywhere(scene: Scene, loss: Loss) -> None:
    calls = scene.go(loss, None).calls
    scene.check(scene.new)
    seen: set[tuple[str, ...]] = set()
    for stop in range(1, calls + 1):
        scene.go(loss, stop)
        scene.check(scene.old, scene.new)
        if loss == "disk full":
            assert not scene.left_over()
        seen.add(scene.stands)
        if scene.live != scene.new or scene.journey.step is not rollback:
            scene.again()
        scene.check(scene.new)
        assert not scene.left_over()
    assert loss != "killed" or len(seen) > 1, "some cuts came before the switch and some after it"


@pytest.mark.parametrize("loss", ["killed", pytest.param("all lost", marks=pytest.mark.slow)])
def test_a_cut_leaves_the_old_release_or_the_new_one(scene: Scene, loss: Loss) -> None:
    cut_everywhere(scene, loss)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [loss for loss in CUTS if loss not in ("killed", "all lost")])
def test_a_cut_that_loses_only_names_or_only_bytes_leaves_the_old_release_or_the_new_one(
    scene: Scene, loss: Loss
) -> None:
    cut_everywhere(scene, loss)


def test_on_a_full_disk_the_old_release_serves_and_nothing_is_left_over(scene: Scene) -> None:
    cut_everywhere(scene, "disk full")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["read-only", "error"])
def test_on_a_disk_that_refuses_the_old_release_serves_or_the_new_one(scene: Scene, loss: Loss) -> None:
    cut_everywhere(scene, loss)


def test_what_is_reported_as_done_survives_a_power_cut(scene: Scene) -> None:
    scene.go("all lost", None)
    scene.check(scene.new)
    state = releases.current(scene.home, APP).state
    assert (state.name, bool(state.signer)) == ("trial" if scene.journey.step is push else "good", True)
    if scene.journey.step is rollback:
        assert scene.old is not None
        assert releases.find(scene.home, APP, scene.old.digest).state.reason == "because"


@pytest.mark.parametrize("loss", CUTS)
def test_the_failing_disk_does_fail(scene: Scene, loss: Loss) -> None:
    disk = scene.go(loss, 1)
    assert (disk.calls, scene.live) == (1, scene.old)
