"""Push to a device that is set up: a folder of this machine with a real environment and a real engine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from edgekit import device as devices
from edgekit import push as pushing
from edgekit import signing, transports
from edgekit.errors import (
    BundleError,
    ConnectError,
    DeviceError,
    DigestMismatch,
    EdgekitError,
    EngineNotInstalled,
    IncompatibleTarget,
    ProofFailed,
    SignatureError,
)
from edgekit.fleet import Device
from edgekit.push import Parcel, Pushed, find_bundle, open_parcel
from edgekit.transports import Transport
from edgekit.transports.talk import Talk
from edgekit_runtime.bundle import blob_path
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.patch import CHUNK
from tests.lab.bundles import TARGET, contents, flip, make_bundle, of_another_model, of_other_bytes, part_of
from tests.lab.project import Served, desk, project, served, tree
from tests.lab.sent import install_unchecked, send

__all__ = ["desk", "project", "served"]  # fixtures


@pytest.fixture
def link(project: Path) -> Iterator[Transport]:
    """The way to the desk."""
    with transports.connect(f"local:{project / 'desk'}") as opened:
        yield opened


def push(place: Path, device: Device, link: Transport) -> Pushed:
    return pushing.push(open_parcel(place), device, link, lambda line: None)


def live(link: Transport) -> str | None:
    """The digest of the digits release that serves, after it has really served."""
    apps = devices.call(link, "status")["apps"]
    if not apps:
        return None
    serving = "import edgekit_runtime, numpy; edgekit_runtime.load('digits').predict(numpy.zeros((1, 1, 8, 8), 'f4'))"
    link.run(["sh", "-c", '"$EDGEKIT_HOME/env/bin/python" -c "$1"', "-", serving]).check()
    return str(apps[0]["current"]["digest"])


class TestSending:
    def test_the_first_push_sends_every_blob(self, project: Path, desk: Device, link: Transport) -> None:
        made = make_bundle(project / "bundles/one")
        done = push(made.root, desk, link)
        assert done.bytes_total == sum(blob.size for blob in open_parcel(made.root).blobs)
        assert (done.device, done.release, done.previous) == ("desk", made.digest, None)
        assert done.bytes_total // 2 < done.bytes_sent < done.bytes_total  # deflated
        assert done.proof["vectors"] == 16
        assert live(link) == made.digest
        assert list((project / "desk/incoming").glob("*")) == []

    def test_no_change_sends_nothing_and_changes_nothing(self, served: Served, link: Transport) -> None:
        before = tree(served.home / "apps")
        done = push(served.second.root, served.device, link)
        assert (done.bytes_sent, done.release, done.previous) == (0, served.second.digest, None)
        assert tree(served.home / "apps") == before

    def test_only_missing_blobs_are_sent(self, project: Path, served: Served, link: Transport) -> None:
        third = make_bundle(project / "third", sequence=3)
        said: list[str] = []
        done = pushing.push(open_parcel(third.root), served.device, link, said.append)
        image = blob_path(third.root, third.digest).stat().st_size
        assert 0 < done.bytes_sent < image + third.config.size
        assert done.bytes_total == image + third.config.size + sum(layer.size for layer in third.layers)
        assert done.previous == served.second.digest
        assert said == [
            f"sending image, {image} bytes",
            f"sending manifest, {third.config.size} bytes",
            "proving on the device",
        ]

    def test_one_blob_that_got_lost_on_the_device(self, project: Path, served: Served, link: Transport) -> None:
        third, (model, *_) = make_bundle(project / "third", sequence=3), served.second.layers
        blob_path(served.home, model.digest).unlink()
        said: list[str] = []
        pushing.push(open_parcel(third.root), served.device, link, said.append)
        assert [line.split(",")[0] for line in said[:-1]] == ["sending image", "sending manifest", "sending model"]

    def test_a_release_on_trial_is_live_and_not_sent_again(
        self, project: Path, served: Served, link: Transport
    ) -> None:
        place = make_bundle(project / "three", sequence=3).root
        first, second = push(place, served.device, link), push(place, served.device, link)
        assert (first.state, second.state, second.bytes_sent) == ("trial", "trial", 0)
        assert first.notes == second.notes == ("on trial until 100 inferences or 10 minutes of service",)
        push(make_bundle(project / "four", sequence=4).root, served.device, link)
        [app] = devices.call(link, "status")["apps"]
        assert app["previous"]["digest"] == served.second.digest, "what is on trial is no way back"
        devices.call(link, "confirm", "digits")
        done = push(project / "four", served.device, link)
        assert (done.state, done.notes, done.bytes_sent) == ("good", (), 0)

    def test_a_release_that_was_left_is_taken_up_again(self, served: Served, link: Transport) -> None:
        done = pushing.push(
            open_parcel(served.first.root), served.device, link, lambda line: None, allow_downgrade=True
        )
        assert (done.release, done.previous, done.bytes_sent) == (served.first.digest, served.second.digest, 0)

    def test_nothing_of_the_caller_gets_in_between(
        self, project: Path, desk: Device, link: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place in (project / "desk", project / "path"):
            place.mkdir(exist_ok=True)
            for module in ("numpy.py", "json.py", "edgekit_runtime.py"):
                (place / module).write_text("raise SystemExit('the wrong module')\n")
        monkeypatch.setenv("PYTHONPATH", str(project / "path"))
        made = make_bundle(project / "bundles/one")
        assert push(made.root, desk, link).release == made.digest


class TestRefusals:
    def test_another_target_is_refused_before_a_byte_is_sent(
        self, project: Path, desk: Device, link: Transport
    ) -> None:
        made = make_bundle(project / "bundles/pi", target="raspberry-pi-5")
        before = tree(project / "desk")
        with pytest.raises(IncompatibleTarget, match=f"desk: the bundle is for raspberry-pi-5, the device is {TARGET}"):
            push(made.root, desk, link)
        assert tree(project / "desk") == before

    @pytest.mark.parametrize("part", ["image", "manifest", "model", "golden", "signature", "signature's image"])
    def test_a_flipped_byte_is_found_when_the_bundle_is_opened(self, project: Path, part: str) -> None:
        made = make_bundle(project / "bundles/one")
        flip(part_of(made.root, part))
        with pytest.raises(BundleError) as caught:
            open_parcel(made.root)
        assert isinstance(caught.value, DigestMismatch)
        assert str(made.root) in caught.value.message
        assert "build it again" in (caught.value.hint or "")

    def test_a_blob_that_is_missing_is_found(self, project: Path) -> None:
        made = make_bundle(project / "bundles/one")
        part_of(made.root, "golden").unlink()
        with pytest.raises(BundleError, match=rf"{made.root}.*missing"):
            open_parcel(made.root)

    def test_a_proof_that_fails_leaves_the_old_release_live(
        self, project: Path, served: Served, link: Transport
    ) -> None:
        other = make_bundle(project / "other", of_another_model(), sequence=3)
        with pytest.raises(ProofFailed, match="digits: not proven on this device: outputs differ"):
            push(other.root, served.device, link)
        assert live(link) == served.second.digest
        assert push(served.second.root, served.device, link).bytes_sent == 0

    def test_an_engine_that_is_missing_names_the_command(self, project: Path, served: Served, link: Transport) -> None:
        needs = (EngineNeed("litert", ">=2.1"),)
        other = make_bundle(project / "other", sequence=3, format="tflite", engines=needs)
        with pytest.raises(EngineNotInstalled, match="the model needs litert") as caught:
            push(other.root, served.device, link)
        assert caught.value.hint == "edgekit device setup desk --engine litert"
        assert live(link) == served.second.digest

    def test_a_device_that_is_not_set_up_says_so(self, project: Path, desk: Device, link: Transport) -> None:
        made = make_bundle(project / "bundles/one")
        (project / "desk/env").unlink()
        with pytest.raises(DeviceError, match="not set up") as caught:
            push(made.root, desk, link)
        assert "edgekit device setup" in (caught.value.hint or "")


class TestDeviceChecksForItself:
    """The host does not look: the blobs go over as they are."""

    @pytest.mark.parametrize("part", ["image", "manifest", "model", "golden"])
    def test_a_flipped_byte(self, project: Path, served: Served, link: Transport, part: str) -> None:
        shutil.rmtree(served.home / "blobs")  # so that all of it goes over again
        parcel = open_parcel(make_bundle(project / "third", sequence=3).root)
        flip(part_of(parcel.bundle.root, part))
        with pytest.raises(DigestMismatch):
            install_unchecked(parcel, link)
        nothing_came_of(parcel, project)
        assert list((served.home / "incoming").glob("*")) == []

    def test_nothing_stays_of_a_bundle_that_is_refused(self, project: Path, desk: Device, link: Transport) -> None:
        parcel = replace(open_parcel(make_bundle(project / "bundles/one").root), signature="")
        with pytest.raises(SignatureError):
            install_unchecked(parcel, link)
        assert list((project / "desk/incoming").glob("*")) == []

    def test_a_flipped_byte_in_the_signature(self, project: Path, desk: Device, link: Transport) -> None:
        parcel = open_parcel(make_bundle(project / "bundles/one").root)
        lines = parcel.signature.splitlines()
        lines[2] = lines[2][:20] + ("A" if lines[2][20] != "A" else "B") + lines[2][21:]
        with pytest.raises(SignatureError):
            install_unchecked(replace(parcel, signature="\n".join(lines)), link)
        nothing_came_of(parcel, project)

    @pytest.mark.parametrize("signature", ["", "  \n", "no signature"])
    def test_no_signature(self, project: Path, desk: Device, link: Transport, signature: str) -> None:
        parcel = replace(open_parcel(make_bundle(project / "bundles/one").root), signature=signature)
        with pytest.raises(SignatureError):
            install_unchecked(parcel, link)
        nothing_came_of(parcel, project)

    def test_the_signature_of_another_bundle(self, project: Path, desk: Device, link: Transport) -> None:
        one, two = (open_parcel(make_bundle(project / f"bundles/{n}", sequence=n).root) for n in (1, 2))
        with pytest.raises(SignatureError, match="does not fit"):
            install_unchecked(replace(one, signature=two.signature), link)
        nothing_came_of(one, project)

    def test_a_signer_that_the_device_does_not_trust(self, project: Path, desk: Device, link: Transport) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", project / "stranger"], check=True)
        parcel = open_parcel(make_bundle(project / "bundles/one").root)
        forged = signing.Signer(project / "stranger").sign(parcel.bundle.digest)
        with pytest.raises(SignatureError, match="does not trust"):
            install_unchecked(replace(parcel, signature=forged), link)
        nothing_came_of(parcel, project)

    def test_a_signature_made_for_another_purpose(self, project: Path, desk: Device, link: Transport) -> None:
        parcel = open_parcel(make_bundle(project / "bundles/one").root)
        command = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", signing.default_key()]
        made = subprocess.run(command, input=f"{parcel.bundle.digest}\n".encode(), capture_output=True, check=True)
        with pytest.raises(SignatureError):
            install_unchecked(replace(parcel, signature=made.stdout.decode()), link)
        nothing_came_of(parcel, project)

    def test_more_bytes_than_declared(self, project: Path, desk: Device, link: Transport) -> None:
        parcel = open_parcel(make_bundle(project / "bundles/one").root)
        with part_of(parcel.bundle.root, "model").open("ab") as file:
            file.write(bytes(100))
        with pytest.raises(BundleError):
            install_unchecked(parcel, link)
        nothing_came_of(parcel, project)

    def test_a_release_that_is_not_proven_is_not_activated(self, project: Path, desk: Device, link: Transport) -> None:
        parcel = open_parcel(make_bundle(project / "bundles/one").root)
        install_unchecked(parcel, link)
        with pytest.raises(DeviceError, match="not proven"):
            devices.call(link, "activate", "digits", parcel.bundle.digest)
        assert live(link) is None


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="may not mount a small disk",
)


@pytest.fixture
def small_disk(project: Path, served: Served) -> Iterator[Path]:
    """The device's home, on a disk of 1 MiB."""
    place = served.home.rename(project / "kept")
    served.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", served.home], check=True)
    try:
        shutil.copytree(place, served.home, symlinks=True, dirs_exist_ok=True)
        yield served.home
    finally:
        subprocess.run(["umount", "-l", served.home], check=True)


@needs_mount
class TestFullDisk:
    def test_a_bundle_that_does_not_fit(self, project: Path, served: Served, link: Transport, small_disk: Path) -> None:
        big = make_bundle(project / "big", replace(contents(), model=os.urandom(2 << 20)), sequence=3)
        with pytest.raises(DeviceError, match=r"the bundle needs 20.. KiB, the disk has"):
            push(big.root, served.device, link)
        self.the_old_one_serves(served, link)

    @pytest.mark.slow
    def test_a_disk_that_fills_while_it_is_pushed(
        self, project: Path, served: Served, link: Transport, small_disk: Path
    ) -> None:
        """Somebody else writes to it, after there was room: it fails while sending or later, or is done."""
        failed = []
        parcel = open_parcel(make_bundle(project / "other", of_other_bytes(), sequence=3).root)
        for left in range(0, 1 << 18, 3 << 12):
            try:
                pushing.push(parcel, served.device, Filling(link, small_disk, left), lambda line: None)
            except EdgekitError as error:
                failed.append(str(error))
                (small_disk / "filler").unlink()
                self.the_old_one_serves(served, link)
            else:
                break
        assert live(link) == parcel.bundle.digest
        assert {"o space left on device" in each for each in failed} == {True}, failed

    def the_old_one_serves(self, served: Served, link: Transport) -> None:
        assert live(link) == served.second.digest
        assert list((served.home / "incoming").glob("*")) == []


class Filling:
    """A way to a device whose disk fills up to a few bytes before anything of a bundle goes over."""

    def __init__(self, link: Transport, disk: Path, left: int) -> None:
        self._link, self._filler, self._left = link, disk / "filler", left
        self.run, self.put, self.get, self.close = link.run, link.put, link.get, link.close

    def talk(self, argv: Sequence[str]) -> Talk:
        return at_the_order(self._link.talk(argv), self._filled)

    def _filled(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        disk = os.statvfs(self._filler.parent)
        self._filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - self._left))
        return pieces


class Cut:
    """A way to a device that is cut after so many bytes of a bundle."""

    def __init__(self, link: Transport, after: int) -> None:
        self._link, self._left = link, after
        self.run, self.put, self.get, self.close = link.run, link.put, link.get, link.close

    def talk(self, argv: Sequence[str]) -> Talk:
        return at_the_order(self._link.talk(argv), self._first)

    def _first(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        (order, *frames) = pieces
        yield order
        for frame in frames:
            yield frame[: self._left]
            self._left -= len(frame)
            if self._left <= 0:
                raise ConnectError("the connection was lost")


def at_the_order(talk: Talk, changed: Callable[[Iterable[bytes]], Iterable[bytes]]) -> Talk:
    """A push whose second words, the order and what follows it, are changed on their way."""
    say, said = talk.say, count()

    def other(pieces: Iterable[bytes]) -> None:
        say(changed(pieces) if next(said) else pieces)

    talk.say = other  # type: ignore[method-assign]
    return talk


def test_after_a_cut_only_the_rest_is_sent(project: Path, desk: Device, link: Transport) -> None:
    parcel = open_parcel(make_bundle(project / "bundles/one", replace(contents(), model=os.urandom(5 * CHUNK))).root)
    with pytest.raises(EdgekitError):  # of the way, or of the device which notices it
        send(parcel, Cut(link, int(3.5 * CHUNK)))
    assert live(link) is None
    assert 2 * CHUNK < send(parcel, link) < 3 * CHUNK


class TestFindBundle:
    def test_the_one_for_the_target(self, project: Path) -> None:
        for name in (TARGET, "raspberry-pi-5"):
            make_bundle(project / f"bundles/digits-{name}", target=name)
        assert find_bundle(Path("bundles"), TARGET) == Path(f"bundles/digits-{TARGET}")

    def test_none(self, project: Path) -> None:
        make_bundle(project / "bundles/pi", target="raspberry-pi-5")
        with pytest.raises(BundleError, match=r"no bundle for x \(built is raspberry-pi-5\)") as caught:
            find_bundle(Path("bundles"), "x")
        assert caught.value.hint == "edgekit build --target x"
        with pytest.raises(BundleError, match=r"no bundle for x \(built is nothing\)"):
            find_bundle(Path("nowhere"), "x")

    def test_two_for_one_target_are_never_chosen_between(self, project: Path) -> None:
        for app in ("cats", "dogs"):
            make_bundle(project / f"bundles/{app}", app=app)
        with pytest.raises(BundleError, match="several bundles") as caught:
            find_bundle(Path("bundles"), TARGET)
        assert caught.value.hint == "name one of bundles/cats, bundles/dogs"

    def test_what_an_interrupted_build_left_is_no_bundle(self, project: Path) -> None:
        made = make_bundle(project / "bundles/digits")
        shutil.copytree(made.root, project / "bundles/.digits.x7q")
        assert find_bundle(Path("bundles"), TARGET) == Path("bundles/digits")

    def test_a_damaged_one_is_named(self, project: Path) -> None:
        made = make_bundle(project / "bundles/digits")
        flip(part_of(made.root, "manifest"))
        with pytest.raises(DigestMismatch, match="bundles/digits: "):
            find_bundle(Path("bundles"), TARGET)


def nothing_came_of(parcel: Parcel, project: Path) -> None:
    """No release, and no blob that is not what its name says."""
    home = project / "desk"
    assert not list(home.glob(f"apps/*/releases/{parcel.bundle.digest.partition(':')[2]}"))
    for blob in home.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
