"""A spool that survives what happens to disks, clocks and processes."""

from __future__ import annotations

import gzip
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit_runtime import spool as module
from edgekit_runtime import spool_files
from edgekit_runtime.spool import SPOOL_BYTES, Spool
from edgekit_runtime.spool_files import listed
from edgekit_runtime.windows import Window, dump
from tests.runtime.powercut import CUTS, REFUSALS, Loss, failing

WINDOW = Window("app", "sha256:00", "s", 7, 1.5, 2.5, {3: 2, 700: 1}, {"invalid_input": 4})

SLOW = pytest.mark.slow
OTHERS = [loss for loss in (*CUTS, *REFUSALS) if loss != "all lost"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of everything."""
    for name, size in (("SPOOL_BYTES", 20_000), ("FILE_BYTES", 3_000), ("LEFT_BYTES", 700)):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(spool_files, "BLOCK", 64)


def full(seq: int = 0, session: str = "s", buckets: int = 85) -> Window:
    return replace(WINDOW, seq=seq, session=session, buckets=dict.fromkeys(range(1000, 1000 + buckets), 1))


def noisy(seq: int, session: str = "s") -> Window:
    """One that does not pack well."""
    chance = random.Random(seq)
    return replace(full(seq, session), buckets={chance.randrange(2500): chance.randrange(10**6) for _ in range(25)})


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def test_windows_come_back_in_the_order_of_their_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "reports" / "app")
    written = [full(seq, f"session{seq // 3}", 5) for seq in range(9)]
    for window in written:
        spool.append(window)
    assert list(spool.windows()) == written


def test_an_empty_spool_has_no_windows(tmp_path: Path) -> None:
    assert list(Spool(tmp_path / "none").windows()) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("sessions", [1, 200])
def test_it_never_grows_over_its_limit_and_keeps_the_newest(tmp_path: Path, sessions: int) -> None:
    spool, sizes = Spool(tmp_path), []
    for seq in range(200):
        spool.append(noisy(seq, f"session{seq % sessions:04d}"))
        sizes.append(size(tmp_path))
    assert max(sizes) <= module.SPOOL_BYTES
    assert sizes[-1] > module.SPOOL_BYTES * 0.7
    kept = [window.seq for window in spool.windows()]
    assert kept == list(range(kept[0], 200))


def test_it_holds_weeks_of_a_device_that_nobody_asks(tmp_path: Path) -> None:
    """Thirty calls a second with stages and drift: bytes of a packed window, by how many minutes are put together."""
    packed, spool, minutes, seq = {1: 580, 5: 1045, 15: 1251, 30: 1345}, Spool(tmp_path), 0, 0
    while minutes < 28 * 24 * 60:
        together = spool.patience
        file = spool_files.fresh(tmp_path, seq, "s", seq)
        spool._files[file.path] = replace(file, size=40 * packed[together])
        minutes, seq = minutes + 40 * together, seq + 1
    assert sum(file.room for file in spool._files.values()) < SPOOL_BYTES
    spool.append(full())
    spool.told()
    spool._files = {path: file for path, file in spool._files.items() if path.exists()}
    assert spool.patience == 1


def test_what_is_full_is_packed_and_read_as_before(tmp_path: Path, small: None) -> None:
    spool, written = Spool(tmp_path), [full(seq) for seq in range(42)]
    for window in written:
        spool.append(window)
    assert list(spool.windows()) == written
    files = listed(tmp_path)
    assert [file.packed for file in files] == [True] * (len(files) - 1) + [False]
    assert size(tmp_path) < 0.5 * sum(len(dump(window)) for window in written)
    assert list(Spool(tmp_path).windows()) == written


def test_what_another_session_left_is_packed_by_the_next(tmp_path: Path, small: None) -> None:
    for seq in range(2):
        Spool(tmp_path).append(full(seq, "gone"))
    Spool(tmp_path).append(full(0, "short", 2))
    Spool(tmp_path).append(full(0, "new"))
    packed = {file.session: file.packed for file in listed(tmp_path)}
    assert packed == {"gone": True, "short": False, "new": False}
    assert len(list(Spool(tmp_path).windows())) == 4


def test_one_that_lives_and_was_packed_by_another_goes_on(tmp_path: Path, small: None) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    for seq in range(2):
        one.append(full(seq, "one"))
    other.append(full(0, "other"))
    for seq in (2, 3):
        one.append(full(seq, "one"))
    assert [(w.session, w.seq) for w in one.windows()] == [("one", 0), ("one", 1), ("other", 0), ("one", 2), ("one", 3)]


class TestCuts:
    """At every call that changes something on the disk, a kill or a power cut."""

    @pytest.mark.parametrize("loss", ["all lost", *(pytest.param(loss, marks=SLOW) for loss in OTHERS)])
    def test_packing_loses_nothing(self, tmp_path: Path, loss: Loss, small: None) -> None:
        stop = 0
        while True:
            stop += 1
            folder = tmp_path / str(stop)
            written = [full(seq, "gone") for seq in range(3)]
            for window in written:
                Spool(folder).append(window)
            with suppress(OSError), failing(folder, tmp_path / f"backup{stop}", loss, stop) as disk:
                Spool(folder).append(full(0, "new", 3))
            keys = [(w.session, w.seq) for w in Spool(folder).windows()]
            assert keys[:3] == [("gone", 0), ("gone", 1), ("gone", 2)], (stop, keys)
            Spool(folder).append(full(0, "next", 3))
            assert [w for w in Spool(folder).windows() if w.session == "gone"] == written
            assert ("next", 0) in [(w.session, w.seq) for w in Spool(folder).windows()]
            if not disk.failed:
                break
        assert stop > 5

    @pytest.mark.parametrize("loss", ["killed", "disk full", pytest.param("names lost", marks=SLOW)])
    def test_a_file_that_becomes_full(self, tmp_path: Path, loss: Loss, small: None) -> None:
        stop = 0
        while True:
            stop += 1
            spool = Spool(tmp_path / str(stop))
            written = [full(seq) for seq in range(4)]
            for window in written[:3]:
                spool.append(window)
            with suppress(OSError), failing(spool.folder, tmp_path / f"backup{stop}", loss, stop) as disk:
                spool.append(written[3])
            found = list(Spool(spool.folder).windows())
            assert found in (written[:3], written), stop
            if not disk.failed:
                break
        assert found == written
        assert any(file.packed for file in listed(spool.folder))

    def test_what_was_packed_before_lines_came_to_it_stays_in(self, tmp_path: Path, small: None) -> None:
        """Killed between the two; the session lived on, and then the power went with half of its lines."""
        spool = Spool(tmp_path)
        for seq in range(3):
            spool.append(full(seq, "gone"))
        [file] = listed(tmp_path)
        file.path.with_name(f"{file.path.name}.gz").write_bytes(gzip.compress(file.path.read_bytes()))
        file.path.write_bytes(f"{dump(full(0, 'gone'))}\n{dump(full(3, 'gone', 300))}\n".encode())
        assert {w.seq for w in Spool(tmp_path).windows()} == {0, 1, 2, 3}
        Spool(tmp_path).append(full(0, "new"))
        assert [file.packed for file in listed(tmp_path) if file.session == "gone"] == [True]
        assert [w.seq for w in Spool(tmp_path).windows() if w.session == "gone"] == [0, 1, 2, 3]


class TestClock:
    @pytest.mark.parametrize("moment", [0, 4102444800])
    def test_files_are_as_old_as_they_came_whatever_it_says(self, tmp_path: Path, small: None, moment: int) -> None:
        spool = Spool(tmp_path)
        for seq in range(200):
            spool.append(noisy(seq))
            if seq == 150:
                spool = Spool(tmp_path)
            for file in listed(tmp_path):
                os.utime(file.path, (moment, moment - file.order))
        kept = [window.seq for window in spool.windows()]
        assert kept == list(range(kept[0], 200))

    def test_files_of_an_older_runtime_are_the_oldest(self, tmp_path: Path) -> None:
        old = {**replace(WINDOW, session="old").__dict__}
        lines = [dump(replace(Window(**old), seq=seq)).replace(':2,"app"', ':1,"app"') for seq in range(2)]
        (tmp_path / "old-000000000.ndjson").write_text("\n".join(lines) + "\n")
        Spool(tmp_path).append(full())
        assert [(w.session, w.seq) for w in Spool(tmp_path).windows()] == [("old", 0), ("old", 1), ("s", 0)]


def test_a_torn_last_line_is_skipped_and_the_next_window_starts_a_line(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(full(0))
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(dump(full(1)).encode()[:200])
    assert list(spool.windows()) == [full(0)]
    spool.append(full(2))
    assert list(spool.windows()) == [full(0), full(2)]
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_lines_do_not_hide_whole_ones(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(full(0))
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"\0" * 64 + b"\n\xff\xfe\n[" + b"[" * 5000 + b"\n" + path.read_bytes() + b"{}\n")
    assert list(spool.windows()) == [full(0)]


def test_foreign_things_in_the_folder_are_left_alone(tmp_path: Path, small: None) -> None:
    spool = Spool(tmp_path)
    spool.append(full(0))
    (tmp_path / "00000002.a-000000000.ndjson").mkdir()
    (tmp_path / "00000003.a-000000000.ndjson").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "00000004.a-000000000.ndjson")
    (tmp_path / "other.txt").write_text(dump(full(1)))
    (tmp_path / "holiday.ndjson").write_text(dump(full(1)))
    (tmp_path / "00000005.a-000000000.ndjson.gz").write_bytes(b"no gzip")
    (tmp_path / "00000006.a-000000000.ndjson.gz").write_bytes(gzip.compress(f"{dump(full(5))}\n".encode() * 9)[:-20])
    (tmp_path / "00000007.a-000000000.ndjson").write_bytes(b"\0" * 5000)
    spool = Spool(tmp_path)
    spool.append(full(2))
    assert {window.seq for window in spool.windows()} >= {0, 2}
    assert (tmp_path / "holiday.ndjson").exists()
    assert (tmp_path / "00000002.a-000000000.ndjson").is_dir()


def test_what_unpacks_to_too_much_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_files, "MOST_READ", 1 << 21)
    bomb = tmp_path / "00000001.a-000000000.ndjson.gz"
    bomb.write_bytes(gzip.compress(b"0" * (1 << 24), 1))
    before = time.process_time()
    assert list(Spool(tmp_path).windows()) == []
    assert time.process_time() - before < 1
    assert sum(map(len, spool_files.lines(bomb))) == 1 << 21


def test_a_file_that_another_process_removes_meanwhile_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, other = Spool(tmp_path), Spool(tmp_path)
    for seq in range(3):
        other.append(full(seq, f"other{seq}"))

    def listed_then_lost(folder: Path) -> Any:
        found = listed(folder)
        (tmp_path / "00000002.other1-000000001.ndjson").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "listed", listed_then_lost)
    spool.append(full(9))
    assert {window.seq for window in spool.windows()} == {0, 2, 9}


def test_the_session_s_own_file_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(full(0))
    (path,) = tmp_path.iterdir()
    path.unlink()
    spool.append(full(1))
    assert [window.seq for window in spool.windows()] == [1]


def disk_full(write: Callable[[int, bytes], int], room: int) -> Callable[[int, bytes], int]:
    """What a disk with so many bytes left does."""
    left = [room]

    def limited(handle: int, data: bytes) -> int:
        taken = min(len(data), left[0])
        left[0] -= taken
        return write(handle, data[:taken]) if taken else 0

    return limited


@pytest.mark.parametrize("room", [0, 100])
def test_a_full_disk_costs_nothing_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None, room: int
) -> None:
    """Also where the spool is at its limit: nothing old goes before what is new is there."""
    spool = Spool(tmp_path)
    for seq in range(120):
        spool.append(noisy(seq))
    before = list(spool.windows())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk_full(os.write, room))
        for _ in range(3):
            with pytest.raises(OSError):
                spool.append(noisy(120))
    assert list(spool.windows()) == before
    spool.append(noisy(120))
    assert list(spool.windows())[-1] == noisy(120)
