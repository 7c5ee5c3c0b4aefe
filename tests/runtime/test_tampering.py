"""Nothing that was changed, mixed or made up after the signature comes near being live."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.push import open_parcel
from edgekit_runtime import durable, releases, switches
from edgekit_runtime.bundle import Bundle, blob_path, open_layout
from edgekit_runtime.errors import BundleError, BundleTooLarge, EdgekitError
from tests.runtime.bundles import APP, Parcels, go_live, install, send, serves, take_in

EMPTY = hashlib.sha256(b"{}").hexdigest()
FILES = ("image", "manifest", "model", "golden")
anywhere = given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
few = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flip(file: Path, where: float, mask: int) -> None:
    """Change the byte at a share of the file."""
    data = bytearray(file.read_bytes())
    data[int(len(data) * where)] ^= mask
    file.unlink()  # a release has other links to it
    file.write_bytes(data)


def part(parcel: Bundle, root: Path, name: str) -> Path:
    model, golden = parcel.layers
    digests = {"image": parcel.digest, "manifest": parcel.config.digest, "model": model.digest, "golden": golden.digest}
    return blob_path(root, digests[name])


@contextmanager
def copied(home: Path) -> Iterator[Path]:
    """A home like it, for one example."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(home, Path(folder) / "home", symlinks=True))


def refused(home: Path, parcel: Bundle, act: Callable[[], Any]) -> None:
    with pytest.raises(EdgekitError) as caught:
        act()
    assert caught.value.code in ("bundle", "digest_mismatch", "too_large", "signature", "unknown_signer")
    assert releases.pointed(home, APP, "current") != parcel.digest


@few
@anywhere
def test_a_byte_that_changed_on_the_way(home: Path, parcels: Parcels, name: str, where: float, mask: int) -> None:
    with copied(home) as there:
        place = send(parcels.one, there)
        flip(place / part(parcels.one, there, name).name, where, mask)
        refused(there, parcels.one, lambda: take_in(parcels.one, there, place))
        assert list((there / "incoming").iterdir()) == []
        assert not (there / "apps").exists()


@few
@anywhere
def test_a_byte_that_changed_after_the_install(
    home: Path, parcels: Parcels, name: str, where: float, mask: int
) -> None:
    with copied(home) as there:
        release = releases.mark(install(parcels.one, there), "proven")
        flip(part(parcels.one, there, name), where, mask)
        refused(there, parcels.one, lambda: switches.activate(there, APP, release.digest))


@few
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 127))
def test_a_byte_that_changed_in_the_signature(home: Path, parcels: Parcels, where: float, mask: int) -> None:
    """Of its base64, all of which counts; OpenSSH passes over what stands around it."""
    whole = open_layout(parcels.one.root)[1]
    lines = whole.splitlines()
    inner = bytearray("".join(lines[1:-1]).encode())
    inner[int(len(inner) * where)] ^= mask
    changed = "\n".join([lines[0], inner.decode("latin-1"), lines[-1], ""])
    with copied(home) as there:
        place = send(parcels.one, there)
        try:
            releases.install(there, place, parcels.one.digest, changed)
        except EdgekitError as error:
            assert error.code in ("signature", "unknown_signer")
        else:  # the bits that base64 leaves over at its end
            assert base64.b64decode(inner) == base64.b64decode("".join(lines[1:-1]))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_byte_that_changed_before_the_push(parcels: Parcels, data: st.DataObject) -> None:
    """In any file of the bundle: it is refused, or what would be sent is what was signed, byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(parcels.one.root, Path(folder) / "bundle"))
        files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
        file = data.draw(st.sampled_from(files))
        flip(root / file, data.draw(st.floats(0, 1, exclude_max=True)), data.draw(st.integers(1, 255)))
        try:
            parcel = open_parcel(root)
        except BundleError:
            return
        assert file.name in ("index.json", "oci-layout", EMPTY)  # not what is sent
        whole = open_parcel(parcels.one.root)
        assert parcel.blobs == whole.blobs
        assert parcel.signature in (whole.signature, "")


class TestMixedUp:
    @pytest.mark.parametrize("name", FILES)
    def test_a_part_of_another_bundle(self, home: Path, parcels: Parcels, name: str) -> None:
        """Both are signed, and whole."""
        go_live(parcels.two, home)
        place = send(parcels.other, home)
        mine, theirs = part(parcels.other, home, name), part(parcels.one, parcels.one.root, name)
        shutil.copyfile(theirs, place / mine.name)
        refused(home, parcels.other, lambda: take_in(parcels.other, home, place))
        assert serves(parcels.two)

    def test_the_signature_of_another_bundle(self, home: Path, parcels: Parcels) -> None:
        place, theirs = send(parcels.one, home), open_layout(parcels.two.root)[1]
        refused(home, parcels.one, lambda: releases.install(home, place, parcels.one.digest, theirs))


class Growing:
    """A file to which somebody writes as fast as it is read."""

    def __init__(self, path: Path) -> None:
        self.file, self.reads = path.open("rb"), 0
        self.path = path

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        assert self.reads < 10, "it is read without end"
        with self.path.open("ab") as more:
            more.write(bytes(1 << 16))
        return self.file.read(size)


class TestEndless:
    def test_a_file_that_grows_while_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "blob").write_bytes(bytes(1 << 16))
        monkeypatch.setattr(durable, "_open", Growing)
        with pytest.raises(BundleTooLarge):
            durable.check_file(tmp_path / "blob", f"sha256:{'0' * 64}", 1 << 16)
        assert len(durable.read(tmp_path / "blob", 1 << 30)) < 1 << 20

    def test_more_than_was_declared_is_not_read(self, home: Path, parcels: Parcels) -> None:
        place = send(parcels.one, home)
        model = place / part(parcels.one, home, "model").name
        os.truncate(model, 1 << 40)  # a hole: to read it would take hours
        refused(home, parcels.one, lambda: take_in(parcels.one, home, place))


class TestTricks:
    @pytest.mark.parametrize("kind", ["link", "link to zeros", "fifo", "folder", "device", "socket"])
    @pytest.mark.parametrize("name", FILES)
    def test_what_is_no_file(self, home: Path, parcels: Parcels, tmp_path: Path, kind: str, name: str) -> None:
        place = send(parcels.one, home)
        arrived = place / part(parcels.one, home, name).name
        arrived.rename(tmp_path / "real")
        made: dict[str, Callable[[], object]] = {
            "link": lambda: arrived.symlink_to(tmp_path / "real"),
            "link to zeros": lambda: arrived.symlink_to("/dev/zero"),
            "fifo": lambda: os.mkfifo(arrived),
            "folder": arrived.mkdir,
            "device": lambda: os.mknod(arrived, 0o020666, os.makedev(1, 5)),
            "socket": lambda: os.mknod(arrived, 0o140666),
        }
        try:
            made[kind]()
        except PermissionError:
            pytest.skip("only root may make one here")
        with pytest.raises((BundleError, OSError)):
            take_in(parcels.one, home, place)
        assert not (home / "apps").exists()
        assert not blob_path(home, f"sha256:{arrived.name}").exists()

    @pytest.mark.parametrize("kind", ["link to zeros", "fifo"])
    def test_what_another_push_left_that_is_no_file(self, home: Path, parcels: Parcels, kind: str) -> None:
        left = send(parcels.one, home) / part(parcels.one, home, "model").name
        left.unlink()
        left.symlink_to("/dev/zero") if kind == "link to zeros" else os.mkfifo(left)
        take_in(parcels.one, home, send(parcels.one, home))

    @pytest.mark.parametrize("name", ["../../../evil", "..", ".", "/etc/evil", "a/b", "evil\n", "", "evil"])
    def test_a_name_that_leads_elsewhere_is_never_followed(self, home: Path, parcels: Parcels, name: str) -> None:
        """What a host sends there under other names than digests is not looked at, and goes."""
        with pytest.raises(BundleError, match="is no sha256 digest"):
            blob_path(home, f"sha256:{name}")
        place = send(parcels.one, home)
        if name.strip("./") and "/" not in name:
            (place / name).write_bytes(b"evil")
        before = {path for path in home.parent.rglob("*") if "evil" in path.name} - set(place.rglob("*"))
        take_in(parcels.one, home, place)
        assert {path for path in home.parent.rglob("*") if "evil" in path.name} == before
