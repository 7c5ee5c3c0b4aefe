"""The seam: whatever call is the last one before a cut, a name stands for the old bytes or the new ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError, BundleTooLarge, DigestMismatch
from tests.runtime.powercut import CUTS, Loss, failing

OLD, NEW = b"old" * 100, b"new!" * 200
DIGEST = f"sha256:{hashlib.sha256(NEW).hexdigest()}"


def write(folder: Path) -> None:
    durable.write(folder / "file", NEW)


def adopt(folder: Path) -> None:
    durable.adopt(folder / "arrived", folder / "file", DIGEST, len(NEW))


def link(folder: Path) -> None:
    durable.link(folder / "arrived", folder / "file")
    durable.sync(folder)


def point(folder: Path) -> None:
    durable.point(folder / "pointer", "arrived")


def make(folder: Path, old: bool) -> None:
    folder.mkdir()
    (folder / "arrived").write_bytes(NEW)
    (folder / "before").write_bytes(OLD)
    if old:
        (folder / "file").write_bytes(OLD)
        (folder / "pointer").symlink_to("before")


def seen(folder: Path, name: str) -> bytes | None:
    return (folder / name).read_bytes() if os.path.lexists(folder / name) else None


STEPS: list[tuple[Callable[[Path], None], str]] = [
    (write, "file"),
    (adopt, "file"),
    (link, "file"),
    (point, "pointer"),
]


def calls(step: Callable[[Path], None], place: Path, old: bool) -> int:
    make(place / "count", old)
    with failing(place / "count", place / "kept", "killed", None) as disk:
        step(place / "count")
    assert disk.calls > 2
    return disk.calls


@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "new"])
@pytest.mark.parametrize(("step", "name"), STEPS, ids=[step.__name__ for step, _ in STEPS])
class TestEveryCall:
    @pytest.mark.parametrize("loss", CUTS)
    def test_a_cut_leaves_the_old_bytes_or_the_new_ones(
        self, tmp_path: Path, step: Callable[[Path], None], name: str, old: bool, loss: Loss
    ) -> None:
        outcomes = []
        for stop in range(1, calls(step, tmp_path, old) + 1):
            folder = tmp_path / str(stop)
            make(folder, old)
            arrived = [folder / "arrived"] if step is adopt else []
            with failing(folder, tmp_path / f"kept{stop}", loss, stop, *arrived):
                step(folder)
            outcomes.append(seen(folder, name))
            assert outcomes[-1] in (OLD if old else None, NEW)
            (folder / "arrived").write_bytes(NEW)
            step(folder)
            assert seen(folder, name) == NEW
            assert not list(folder.glob(".*"))
        assert (OLD if old else None) in outcomes

    def test_a_full_disk_leaves_the_old_bytes_and_nothing_else(
        self, tmp_path: Path, step: Callable[[Path], None], name: str, old: bool
    ) -> None:
        for stop in range(1, calls(step, tmp_path, old) + 1):
            folder = tmp_path / str(stop)
            make(folder, old)
            with suppress(OSError), failing(folder, tmp_path / "kept", "disk full", stop):
                step(folder)
            assert seen(folder, name) in (OLD if old else None, NEW)
            assert not list(folder.glob(".*"))
            (folder / "arrived").write_bytes(NEW)
            step(folder)
            assert seen(folder, name) == NEW

    def test_what_is_reported_as_done_survives_a_power_cut(
        self, tmp_path: Path, step: Callable[[Path], None], name: str, old: bool
    ) -> None:
        make(tmp_path / "a", old)
        with failing(tmp_path / "a", tmp_path / "kept", "all lost", None):
            step(tmp_path / "a")
        assert seen(tmp_path / "a", name) == NEW


@pytest.mark.parametrize("loss", CUTS)
def test_a_folder_and_those_above_it_are_there_or_not(tmp_path: Path, loss: Loss) -> None:
    with failing(tmp_path, tmp_path.with_name("kept"), loss, None) as disk:
        durable.folder(tmp_path / "count" / "b" / "c")
    for stop in range(1, disk.calls + 1):
        place = tmp_path / str(stop) / "b" / "c"
        with failing(tmp_path, tmp_path.with_name("kept"), loss, stop):
            durable.folder(place)
        durable.folder(place)
        assert place.is_dir()


def test_a_folder_that_is_reported_as_made_survives_a_power_cut(tmp_path: Path) -> None:
    with failing(tmp_path, tmp_path.with_name("kept"), "all lost", None):
        durable.folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_disk_that_gives_back_other_bytes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(OLD)
    really = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: really(handle, bytes(data).replace(b"n", b"m", 1)))
    with pytest.raises(DigestMismatch):
        durable.write(tmp_path / "file", NEW)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", OLD)]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: really(handle, data[:7]))
    durable.write(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


def test_writing_takes_no_notice_of_what_an_earlier_cut_left(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").symlink_to(tmp_path / "elsewhere")
    durable.write(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("data", "error"),
    [(OLD, DigestMismatch), (NEW[:-1], DigestMismatch), (b"", DigestMismatch), (NEW + b"!", BundleTooLarge)],
    ids=["other", "short", "empty", "long"],
)
def test_only_the_right_bytes_are_adopted(tmp_path: Path, data: bytes, error: type[BundleError]) -> None:
    (tmp_path / "arrived").write_bytes(data)
    with pytest.raises(error):
        durable.check_bytes(data, DIGEST, len(NEW))
    with pytest.raises(error):
        adopt(tmp_path)
    assert not (tmp_path / "file").exists()


def odd(kind: str, place: Path) -> None:
    (place.parent / "right").write_bytes(NEW)
    if kind == "link":
        place.symlink_to(place.parent / "right")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "endless":
        place.symlink_to("/dev/zero")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "endless"])
def test_only_plain_files_are_read(tmp_path: Path, kind: str) -> None:
    odd(kind, tmp_path / "arrived")
    handles = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(BundleError):
        durable.read(tmp_path / "arrived", len(NEW))
    with pytest.raises(BundleError):
        durable.check_file(tmp_path / "arrived", DIGEST, len(NEW))
    with pytest.raises(BundleError):
        adopt(tmp_path)
    assert not (tmp_path / "file").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == handles


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert durable.read(tmp_path / "huge", 10) == bytes(10)
    with pytest.raises(BundleTooLarge):
        durable.check_file(tmp_path / "huge", DIGEST, 1 << 39)


def test_a_small_file_may_be_declared_huge_without_the_memory_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(NEW)
    assert durable.read(tmp_path / "file", 1 << 60) == NEW
