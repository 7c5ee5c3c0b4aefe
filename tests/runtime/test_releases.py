"""Releases: what may be installed, what may serve, and which way back there is."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.signing import Signer
from edgekit_runtime import bundle, releases, switches
from edgekit_runtime import home as homes
from edgekit_runtime.bundle import Bundle, Descriptor, blob_path, open_layout
from edgekit_runtime.errors import (
    BundleError,
    BundleTooLarge,
    DeviceError,
    DigestMismatch,
    NotInstalled,
    SignatureError,
)
from edgekit_runtime.home import locked
from tests.runtime.bundles import APP, Parcels, contents, go_live, install, make_key, send, serves, take_in, write


def damage(home: Path, parcel: Bundle, media_type: str) -> None:
    path = blob_path(home, parcel.layer(media_type).digest)
    path.write_bytes(bytes(path.stat().st_size))


class TestInstalling:
    def test_nothing_is_live_after_installing(self, home: Path, parcels: Parcels) -> None:
        release = install(parcels.one, home)
        assert (release.state.name, release.digest) == ("installed", parcels.one.digest)
        assert "@" in release.state.signer
        assert releases.apps(home) == []
        with pytest.raises(NotInstalled, match="no app 'scores' is live"):
            releases.current(home, APP)

    def test_the_folder_of_a_release_names_its_parts(self, home: Path, parcels: Parcels) -> None:
        release = install(parcels.one, home)
        names = {"image.json", "manifest.json", "model.onnx", "golden.npz", "signature", "state.json"}
        assert {path.name for path in release.folder.iterdir()} == names
        model = parcels.one.read(parcels.one.layer(bundle.MODEL_TYPE))
        assert (release.folder / "model.onnx").read_bytes() == model

    def test_what_the_device_has_is_not_sent_again(self, home: Path, parcels: Parcels) -> None:
        place = send(parcels.one, home)
        assert len(list(place.iterdir())) == 4
        take_in(parcels.one, home, place)
        assert list(send(parcels.one, home).iterdir()) == []

    def test_installing_again_keeps_the_state(self, home: Path, parcels: Parcels) -> None:
        live = go_live(parcels.one, home)
        assert install(parcels.one, home) == live
        assert releases.current(home, APP) == live

    def test_a_bad_release_gets_another_chance_when_it_is_pushed_again(self, home: Path, parcels: Parcels) -> None:
        releases.mark(install(parcels.one, home), "bad", reason="too slow")
        state = install(parcels.one, home).state
        assert (state.name, state.reason) == ("installed", "")

    @pytest.mark.parametrize("media_type", [bundle.MODEL_TYPE, bundle.GOLDEN_TYPE])
    def test_a_damaged_blob_is_sent_again_and_repaired(self, home: Path, parcels: Parcels, media_type: str) -> None:
        release = go_live(parcels.one, home)
        damage(home, parcels.one, media_type)
        with pytest.raises(DigestMismatch):
            take_in(parcels.one, home, home / "incoming" / "nothing")
        place = send(parcels.one, home)
        assert [path.name for path in place.iterdir()] == [parcels.one.layer(media_type).digest[7:]]
        take_in(parcels.one, home, place)
        assert serves(parcels.one)
        for name in ("model.onnx", "golden.npz"):
            data = (release.folder / name).read_bytes()
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" in [layer.digest for layer in parcels.one.layers]

    def test_a_blob_that_did_not_arrive(self, home: Path, parcels: Parcels) -> None:
        place = send(parcels.one, home)
        (place / parcels.one.layers[0].digest[7:]).unlink()
        with pytest.raises(BundleError, match="the blob is missing") as caught:
            take_in(parcels.one, home, place)
        assert caught.value.hint == "push the bundle again"

    def test_a_link_that_arrived_is_refused(self, home: Path, parcels: Parcels, tmp_path: Path) -> None:
        place = send(parcels.one, home)
        arrived = place / parcels.one.layers[0].digest[7:]
        arrived.rename(tmp_path / "model")
        arrived.symlink_to(tmp_path / "model")
        with pytest.raises(BundleError, match="symbolic link"):
            take_in(parcels.one, home, place)
        assert not blob_path(home, parcels.one.layers[0].digest).exists()

    def test_more_bytes_than_declared_are_refused(self, home: Path, parcels: Parcels) -> None:
        place = send(parcels.one, home)
        with (place / parcels.one.layers[1].digest[7:]).open("ab") as file:
            file.truncate(1 << 33)
        with pytest.raises(BundleTooLarge):
            take_in(parcels.one, home, place)

    def test_what_was_refused_is_removed(self, home: Path, parcels: Parcels, tmp_path: Path) -> None:
        stranger = make_key(tmp_path / "stranger").sign(parcels.one.digest)
        for signature in ("", "junk", stranger, open_layout(parcels.two.root)[1]):
            place = send(parcels.one, home)
            with pytest.raises(SignatureError):
                releases.install(home, place, parcels.one.digest, signature)
            assert sorted(path.name for path in home.iterdir()) == ["incoming", "lock", "trust"]
            assert list((home / "incoming").iterdir()) == []

    @pytest.mark.parametrize("app", ["../../evil", "a/b", "Scores", "", ".", "..", "a" * 65, "a\nb"])
    def test_an_app_s_name_stays_in_its_folder(self, home: Path, signer: Signer, tmp_path: Path, app: str) -> None:
        with pytest.raises(BundleError):
            install(write(tmp_path / "evil", signer, contents(1, app=app)), home)
        for call in (releases.pointed, releases.find, switches.activate):
            with pytest.raises(BundleError, match="no app name"):
                call(home, app, "current")

    def test_a_format_s_name_stays_in_its_folder(self, home: Path, signer: Signer, tmp_path: Path) -> None:
        evil = contents(1, format="onnx/../../../../evil")
        with pytest.raises(BundleError, match="manifest cannot be read"):
            install(write(tmp_path / "evil", signer, evil), home)

    def test_what_does_not_fit_on_the_disk_is_not_asked_for(self, home: Path) -> None:
        huge = Descriptor("x", "sha256:" + "0" * 64, 1 << 60)
        with pytest.raises(DeviceError, match=r"the disk has \d+ KiB free"):
            releases.missing(home, [huge])
        assert list((home / "incoming").iterdir()) == []


class TestStates:
    def test_only_a_proven_release_serves(self, home: Path, parcels: Parcels) -> None:
        release = install(parcels.one, home)
        for state in ("installed", "bad", "odd"):
            releases.mark(release, state)
            with pytest.raises(DeviceError, match=f"is {state}, not proven"):
                switches.activate(home, APP, release.digest)
        assert releases.apps(home) == []
        releases.mark(release, "proven")
        assert switches.activate(home, APP, release.digest).state.name == "trial"
        assert serves(parcels.one)

    def test_a_release_that_is_not_here(self, home: Path, parcels: Parcels) -> None:
        for digest in (parcels.one.digest, "sha256:" + "0" * 64):
            with pytest.raises(NotInstalled, match="is not on this device"):
                switches.activate(home, APP, digest)

    def test_a_proven_release_whose_bytes_are_damaged_does_not_serve(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        release = releases.mark(install(parcels.two, home), "proven")
        damage(home, parcels.two, bundle.MODEL_TYPE)
        with pytest.raises(DigestMismatch):
            switches.activate(home, APP, release.digest)
        assert serves(parcels.one)

    def test_switching_keeps_the_way_back(self, home: Path, parcels: Parcels) -> None:
        first, second = go_live(parcels.one, home), go_live(parcels.two, home)
        assert serves(parcels.two)
        assert releases.pointed(home, APP, "previous") == first.digest
        assert switches.activate(home, APP, second.digest) == second
        assert releases.pointed(home, APP, "previous") == first.digest
        assert switches.rollback(home, APP, "too slow").digest == first.digest
        assert serves(parcels.one)
        left = releases.find(home, APP, second.digest).state
        assert (left.name, left.reason) == ("bad", "too slow")
        assert left.installed_at == second.state.installed_at

    def test_there_is_no_way_back_from_the_first_release(self, home: Path, parcels: Parcels) -> None:
        with pytest.raises(NotInstalled):
            switches.rollback(home, APP, "")
        go_live(parcels.one, home)
        with pytest.raises(DeviceError, match="no previous release"):
            switches.rollback(home, APP, "")
        assert serves(parcels.one)

    def test_there_is_no_way_back_twice(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        switches.rollback(home, APP, "")
        with pytest.raises(DeviceError, match="no previous release"):
            switches.rollback(home, APP, "")
        assert serves(parcels.one)

    def test_there_is_no_way_back_to_a_bad_release(self, home: Path, parcels: Parcels) -> None:
        first = go_live(parcels.one, home)
        go_live(parcels.two, home)
        releases.mark(first, "bad", reason="it crashed")
        with pytest.raises(DeviceError, match=r"marked bad \(it crashed\)"):
            switches.rollback(home, APP, "")
        assert serves(parcels.two)

    def test_there_is_no_way_back_to_a_damaged_release(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.two, home)
        damage(home, parcels.one, bundle.MODEL_TYPE)
        with pytest.raises(DigestMismatch):
            switches.rollback(home, APP, "")
        assert serves(parcels.two)

    @pytest.mark.parametrize("harm", ["model", "image", "state", "folder", "pointer"])
    def test_a_damaged_release_can_be_left(self, home: Path, parcels: Parcels, harm: str) -> None:
        go_live(parcels.one, home)
        release = go_live(parcels.two, home)
        if harm == "model":
            damage(home, parcels.two, bundle.MODEL_TYPE)
        elif harm == "image":
            blob_path(home, release.digest).unlink()
        elif harm == "state":
            (release.folder / "state.json").write_bytes(b"\0" * 100)
        elif harm == "folder":
            shutil.rmtree(release.folder)
        else:
            (home / "apps" / APP / "current").unlink()
            (home / "apps" / APP / "current").symlink_to("releases/nowhere")
        switches.rollback(home, APP, "damaged")
        assert serves(parcels.one)

    def test_a_proof_that_another_push_outran_does_not_take_good_away(self, home: Path, parcels: Parcels) -> None:
        release = install(parcels.one, home)
        go_live(parcels.one, home)
        assert releases.judged(home, release, "proven", proof={"ok": True}).state.name == "good"
        assert releases.current(home, APP).state.proof == {"ok": True}
        assert releases.judged(home, release, "bad", reason="differs").state.name == "bad"
        assert releases.judged(home, release, "proven").state.name == "proven"

    def test_apps_do_not_touch_each_other(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        go_live(parcels.other, home)
        go_live(parcels.two, home)
        assert releases.apps(home) == ["other", APP]
        switches.rollback(home, APP, "")
        assert releases.current(home, "other").digest == parcels.other.digest
        with pytest.raises(NotInstalled):
            releases.find(home, "other", parcels.one.digest)

    def test_odd_folders_are_no_apps(self, home: Path, parcels: Parcels) -> None:
        go_live(parcels.one, home)
        for name in ("Not an app", ".hidden", "empty"):
            (home / "apps" / name).mkdir()
            if name != "empty":
                (home / "apps" / name / "current").symlink_to("releases/x")
        (home / "apps" / "file").touch()
        assert releases.apps(home) == [APP]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0" * 400,
            b"null",
            b"[]",
            b"{}",
            b'{"name": "good"}',
            b'{"name": "good", "reason": "", "installed_at": 0, "signer": "", "proof": {}, "more": 1}',
            b'{"name": ["good"], "reason": "", "installed_at": 0, "signer": "", "proof": {}}',
            b'{"name": "good", "reason": "", "installed_at": 0, "signer": "", "proof": {"e": NaN}}',
            b"[" * 100_000,
            None,
        ],
        ids=lambda data: repr(data and data[:24]),
    )
    def test_a_damaged_state_proves_nothing(self, home: Path, parcels: Parcels, data: bytes | None) -> None:
        release = go_live(parcels.one, home)
        state = release.folder / "state.json"
        state.unlink() if data is None else state.write_bytes(data)
        assert serves(parcels.one)
        found = releases.find(home, APP, release.digest).state
        assert (found.name, found.reason) == ("installed", "its state could not be read")
        with pytest.raises(DeviceError, match="not proven"):
            switches.activate(home, APP, release.digest)
        assert go_live(parcels.one, home).state.name == "good"


HOLD = "import sys; from pathlib import Path; from edgekit_runtime.home import locked\n"
HOLD += "with locked(Path(sys.argv[1]), 'the test'): print('held', flush=True); sys.stdin.read()"


class TestLock:
    @pytest.fixture
    def other(self, home: Path) -> Iterator[subprocess.Popen[str]]:
        """Another process that holds the lock until its input ends."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLD, str(home)]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    def test_who_waits_too_long_is_told_for_whom(
        self, home: Path, parcels: Parcels, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(homes, "WAIT_S", 0.1)
        place = send(parcels.one, home)
        calls: list[Callable[[], object]] = [
            lambda: take_in(parcels.one, home, place),
            lambda: switches.activate(home, APP, parcels.one.digest),
            lambda: switches.rollback(home, APP, ""),
        ]
        for call in calls:
            with pytest.raises(DeviceError) as caught:
                call()
            told = rf"another push or rollback is at work on this device: the test \(process {other.pid}\), for \d+ s"
            assert re.fullmatch(told, caught.value.message)
            assert caught.value.hint == "try again when it is done"
        assert len(list(place.iterdir())) == 4
        assert not (home / "apps").exists()

    def test_who_waits_is_told_for_how_long(
        self, home: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(homes, "WAIT_S", 0.0)
        an_hour_ago = time.time() - 3600
        os.utime(home / "lock", (an_hour_ago, an_hour_ago))
        with pytest.raises(DeviceError, match=r"\), for 60 min — "), locked(home, "me"):
            pass

    def test_who_waits_comes_next(self, home: Path, parcels: Parcels, other: subprocess.Popen[str]) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(install, parcels.one, home)
            time.sleep(0.2)
            assert not (home / "blobs").exists()
            other.communicate("")
            assert waiting.result().state.name == "installed"
        assert (home / "lock").read_bytes() == b""

    def test_the_host_of_a_push_is_named(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51234 192.0.2.9 22")
        with locked(home, "a switch"):
            assert (home / "lock").read_text() == f"a switch (process {os.getpid()}, from 192.0.2.7)"

    def test_a_process_that_is_killed_does_not_keep_the_lock(
        self, home: Path, parcels: Parcels, other: subprocess.Popen[str]
    ) -> None:
        other.kill()
        other.wait()
        go_live(parcels.one, home)
        assert serves(parcels.one)
