"""A device runs the old release or the new one, whatever system call of a push or a rollback is the last one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from edgekit_runtime import releases, verify
from edgekit_runtime.bundle import Bundle, blob_path
from tests.runtime.bundles import APP, Parcels, go_live, send, serves, take_in
from tests.runtime.powercut import CUTS, Disk, Loss, failing


def push(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    """As a host has it done; the transport syncs nothing."""
    place = send(parcel, home)
    if disk:
        for arrived in place.iterdir():
            disk.not_synced(arrived)
    release = releases.mark(take_in(parcel, home, place), "proven")
    releases.activate(home, APP, release.digest)


def rollback(home: Path, parcel: Bundle, disk: Disk | None = None) -> None:
    releases.rollback(home, APP, "because")


@dataclass(frozen=True)
class Journey:
    """Releases that go live first; then the step that is cut, from the old release to the new one."""

    before: tuple[str, ...]
    step: Callable[..., None]
    old: str | None
    new: str


JOURNEYS = {
    "first push": Journey((), push, None, "one"),
    "next push": Journey(("one",), push, "one", "two"),
    "rollback": Journey(("one", "two"), rollback, "two", "one"),
}


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
                assert loss == "disk full"
        return disk

    def check(self, *allowed: Bundle | None) -> None:
        """One of these is live and serves; under every final name is what belongs there."""
        assert self.live in allowed
        assert releases.apps(self.home) == ([APP] if self.live else [])
        assert self.live is None or serves(self.live)
        back = releases.pointed(self.home, APP, "previous")
        if back:
            releases.find(self.home, APP, back).bundle.check()
        for path in (self.home / "blobs" / "sha256").glob("[!.]*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        for path in self.home.glob("apps/*/releases/*/[!.]*"):
            check_part(self.home, path)

    def left_over(self) -> list[Path]:
        return list(self.home.rglob(".*.tmp"))


def check_part(home: Path, path: Path) -> None:
    data = path.read_bytes()
    if path.name == "state.json":
        assert json.loads(data)["name"] in ("installed", "proven", "good", "bad")
    elif path.name == "signature":
        assert data.endswith(b"-----END SSH SIGNATURE-----\n")
    else:
        assert blob_path(home, f"sha256:{hashlib.sha256(data).hexdigest()}").exists()


@pytest.fixture(params=[pytest.param("first push", marks=pytest.mark.slow), "next push", "rollback"])
def scene(
    request: pytest.FixtureRequest, parcels: Parcels, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    journey = JOURNEYS[request.param]
    monkeypatch.setattr(verify, "verify", cache(verify.verify))  # hundreds of times the same question
    for name in journey.before:
        go_live(getattr(parcels, name), home)
    home.rename(tmp_path / "start")
    return Scene(journey, parcels, home, tmp_path / "start")


def cut_everywhere(scene: Scene, loss: Loss) -> None:
    calls = scene.go(loss, None).calls
    scene.check(scene.new)
    seen: set[str | None] = set()
    for stop in range(1, calls + 1):
        scene.go(loss, stop)
        scene.check(scene.old, scene.new)
        if loss == "disk full":
            assert not scene.left_over()
        seen.add(scene.live.digest if scene.live else None)
        if scene.live != scene.new or scene.journey.step is push:
            scene.again()
        scene.check(scene.new)
        assert not scene.left_over()
    assert loss != "killed" or len(seen) == 2, "some cuts came before the switch and some after it"


@pytest.mark.parametrize("loss", ["killed", "all lost"])
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


def test_what_is_reported_as_done_survives_a_power_cut(scene: Scene) -> None:
    scene.go("all lost", None)
    scene.check(scene.new)
    state = releases.current(scene.home, APP).state
    assert (state.name, bool(state.signer)) == ("good", True)
    if scene.journey.step is rollback:
        assert scene.old is not None
        assert releases.find(scene.home, APP, scene.old.digest).state.reason == "because"


@pytest.mark.parametrize("loss", CUTS)
def test_the_failing_disk_does_fail(scene: Scene, loss: Loss) -> None:
    disk = scene.go(loss, 1)
    assert (disk.calls, scene.live) == (1, scene.old)
