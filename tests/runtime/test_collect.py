"""Collect: which releases and blobs go, and that a cut anywhere costs nothing that is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Contents
from edgekit.signing import Signer
from edgekit_runtime import bundle, collect, releases, verify
from edgekit_runtime.bundle import Bundle, blob_path
from tests.runtime.bundles import APP, contents, go_live, install, send, serves, write
from tests.runtime.hosts import host
from tests.runtime.powercut import CUTS, Loss, failing


@pytest.fixture(scope="session")
def five(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> list[Bundle]:
    place = tmp_path_factory.mktemp("five")
    return [write(place / str(n), signer, contents(n)) for n in range(1, 6)]


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "verify", cache(verify.verify))


def known(home: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (home / "apps" / APP / "releases").glob("[!.]*")}


def blobs(home: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (home / "blobs/sha256").iterdir()}


def needed(*parcels: Bundle) -> set[str]:
    return {
        digest for each in parcels for digest in (each.digest, each.config.digest, *(b.digest for b in each.layers))
    }


def age(home: Path, hours: float) -> None:
    for path in (home / "apps" / APP / "releases").iterdir():
        os.utime(path, (time.time() - hours * 3600,) * 2)


class TestWhatStays:
    def test_current_previous_and_the_one_before(self, home: Path, five: list[Bundle]) -> None:
        for parcel in five:
            go_live(parcel, home)
        gone = collect.collect(home)
        assert gone.releases == (five[0].digest, five[1].digest)
        assert gone.bytes_freed > 0
        assert known(home) == {each.digest for each in five[2:]}
        assert blobs(home) == needed(*five[2:])
        assert serves(five[4])
        assert collect.collect(home) == collect.Collected()

    def test_the_way_back_stays_however_old_it_is(self, home: Path, five: list[Bundle]) -> None:
        for parcel in five:
            go_live(parcel, home)
        age(home, 1e5)
        os.utime(home / "apps" / APP / "releases" / five[0].digest[7:])
        collect.collect(home, keep=1)
        assert known(home) == needed(five[3], five[4]) & known(home)
        assert releases.pointed(home, APP, "previous") == five[3].digest
        releases.find(home, APP, five[3].digest).bundle.check()

    def test_what_another_push_is_about_to_prove_stays_for_an_hour(self, home: Path, five: list[Bundle]) -> None:
        go_live(five[0], home)
        for parcel in five[1:]:
            install(parcel, home)
        assert collect.collect(home).releases == ()
        age(home, 2)
        assert len(collect.collect(home).releases) == 2
        assert serves(five[0])

    def test_a_blob_that_another_push_need_not_send_stays(self, home: Path, five: list[Bundle]) -> None:
        for parcel in five[:4]:
            go_live(parcel, home)
        place = send(five[0], home)
        before = blobs(home)
        assert collect.collect(home).bytes_freed == 0
        assert blobs(home) == before
        shutil.rmtree(place)
        assert collect.collect(home).bytes_freed > 0

    def test_a_blob_that_was_repaired_belongs_to_all_its_releases(self, home: Path, five: list[Bundle]) -> None:
        """The links of the other release lead to the bytes that were damaged."""
        go_live(five[0], home)
        path = blob_path(home, five[0].layer(bundle.MODEL_TYPE).digest)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        collect.collect(home)
        assert serves(five[0])

    def test_blobs_of_a_release_whose_image_is_damaged_stay(self, home: Path, five: list[Bundle]) -> None:
        go_live(five[0], home)
        blob_path(home, five[0].digest).write_bytes(b"")
        before = blobs(home)
        collect.collect(home)
        assert blobs(home) == before

    def test_what_is_not_ours_stays(self, home: Path, five: list[Bundle]) -> None:
        go_live(five[0], home)
        for place in ("apps/file", f"apps/{APP}/releases/notes", "blobs/sha256/notes"):
            (home / place).write_text("mine")
        (home / "apps/Odd").mkdir()
        collect.collect(home, keep=0)
        assert all((home / place).exists() for place in ("apps/file", "blobs/sha256/notes", "apps/Odd"))

    def test_nothing_is_there(self, home: Path) -> None:
        assert collect.collect(home) == collect.Collected()


LOSSES = (*CUTS, "disk full")
LESS = ("names lost", "bytes lost")


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=pytest.mark.slow) if loss in LESS else loss for loss in LOSSES]
)
def test_a_cut_anywhere_costs_nothing_that_is_needed(
    home: Path, five: list[Bundle], tmp_path: Path, signer: Signer, loss: Loss
) -> None:
    newer = write(tmp_path / "newer", signer, contents(1, sequence=9))
    for parcel in five[:4]:
        go_live(parcel, home)
    home.rename(tmp_path / "start")
    calls = again(home, tmp_path, loss, None)
    assert known(home) == {each.digest for each in five[1:4]}
    seen: set[int] = set()
    for stop in range(1, calls + 1):
        again(home, tmp_path, loss, stop)
        assert releases.current(home, APP).digest == five[3].digest
        for parcel in five[1:4]:
            releases.find(home, APP, parcel.digest).bundle.check()
        if five[0].digest in known(home):
            releases.find(home, APP, five[0].digest).bundle.check()
        seen.add(len(known(home)))
        go_live(newer, home)  # has the model of the one that was going
        collect.collect(home)
        releases.current(home, APP).bundle.check()
        assert blobs(home) == needed(newer, five[2], five[3])
        assert not list(home.glob("apps/*/releases/.*"))
    assert seen == {3, 4}, "some cuts came before the release went, and some after it"


def again(home: Path, tmp_path: Path, loss: Loss, stop: int | None) -> int:
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run(["cp", "-a", tmp_path / "start", home], check=True)  # hard links stay hard links
    with failing(home, tmp_path / "backup", loss, stop) as disk:
        collect.tidy(home)
    return disk.calls


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="may not mount a small disk",
)


def command(*words: str, stdin: object = None) -> dict[str, Any]:
    call = [sys.executable, "-m", "edgekit_runtime", *words]
    done = subprocess.run(call, input=json.dumps(stdin), capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@needs_mount
def test_where_there_is_no_room_only_current_and_previous_stay(home: Path, tmp_path: Path, signer: Signer) -> None:
    parcels = [write(tmp_path / str(n), signer, large(n)) for n in range(4)]
    shutil.copytree(home, tmp_path / "kept")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600k", "none", home], check=True)
    try:
        shutil.copytree(tmp_path / "kept", home, dirs_exist_ok=True)
        for parcel in parcels[:3]:
            go_live(parcel, home)
        with host() as other:
            assert len(other.offers(parcels[3])["missing"]) == 4
        assert known(home) == {parcels[1].digest, parcels[2].digest}
        huge = {"mediaType": "x", "digest": f"sha256:{'0' * 64}", "size": 1 << 30}
        with host() as other:
            told = other.ask(blobs=[huge])["error"]
        assert told["message"].startswith("the bundle needs 1048576 KiB, the disk has ")
        assert known(home) == {parcels[1].digest, parcels[2].digest}
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def large(seed: int) -> Contents:
    return replace(contents(seed), model=np.random.default_rng(seed).bytes(400 << 10))


def test_a_switch_tells_what_went(home: Path, five: list[Bundle]) -> None:
    for parcel in five[:4]:
        go_live(parcel, home)
    answer = command("activate", APP, five[3].digest)
    assert answer["digest"] == five[3].digest
    assert (answer["collected"], answer["bytes_freed"] > 0) == ([five[0].digest], True)
    assert command("activate", APP, five[3].digest, "--keep", "2")["collected"] == [five[1].digest]
