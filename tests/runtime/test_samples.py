"""Samples: what was kept is there, oldest first, within the bound, whatever happened to the power or a file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError, InvalidInput
from edgekit_train import samples
from edgekit_train.samples import Samples
from tests.runtime.powercut import CUTS, REFUSALS, Loss, failing

Array = NDArray[Any]


def picture(number: int, size: int = 100) -> Array:
    return np.full((1, size), number, np.uint8)


def kept(home: Path) -> list[int]:
    """The numbers of the pictures."""
    found = [(int(x.flat[0]), y) for x, y in Samples("app", home)]
    assert all(number == y for number, y in found)
    return [y for _, y in found]


def keep(home: Path, numbers: range, **bound: int) -> None:
    with Samples("app", home, **bound) as store:
        for number in numbers:
            store.keep(picture(number), number)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12, dtype=np.float32).reshape(1, 3, 4),
        np.array([[True, False]]),
        np.array(2.5),
        {"image": picture(1), "file": np.zeros((1, 2)), "y": np.ones(3, np.int8), "": np.ones(1)},
    ],
    ids=["floats", "truths", "a number", "several inputs"],
)
def test_what_is_kept_is_read_again(tmp_path: Path, x: Any) -> None:
    with Samples("app", tmp_path) as store:
        store.keep(x, np.int64(3))
        before = list(store)
    for found in (before, list(Samples("app", tmp_path))):
        ((again, label),) = found
        assert (label, type(label)) == (3, int)
        pairs = [(x, again)] if isinstance(x, np.ndarray) else [(x[name], again[name]) for name in x]
        assert all(np.array_equal(a, b) and a.dtype == b.dtype and a.shape == b.shape for a, b in pairs)


def test_samples_come_oldest_first_over_restarts_and_of_any_kind(tmp_path: Path) -> None:
    keep(tmp_path, range(5))
    with Samples("app", tmp_path) as store:
        for number in range(5, 10):
            store.keep(picture(number, size=number), number)
        assert [y for _, y in store] == list(range(10))
    assert kept(tmp_path) == list(range(10))


def test_a_buffer_that_is_filled_again_is_copied(tmp_path: Path) -> None:
    buffer = picture(0)
    with Samples("app", tmp_path) as store:
        for number in range(3):
            buffer[:] = number
            store.keep(buffer, number)
    assert kept(tmp_path) == [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([10, 1000, 9000]), max_size=60), st.lists(st.integers(0, 59), max_size=4))
def test_the_bound_holds_and_the_newest_stay(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], flushed: list[int]
) -> None:
    home, most = tmp_path_factory.mktemp("home"), 64 << 10
    with Samples("app", home, most) as store:
        for number, size in enumerate(sizes):
            store.keep(picture(number, size), number)
            if number in flushed:
                store.flush()
    files = list(home.rglob("*.npz"))
    assert sum(-(-file.stat().st_size // 4096) * 4096 for file in files) <= most
    found = kept(home)
    assert found == list(range(len(sizes)))[len(sizes) - len(found) :]
    assert len(found) == len(sizes) or sum(file.stat().st_size for file in files) > most // 3


def test_the_disk_is_written_a_segment_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = durable.write
    monkeypatch.setattr(durable, "write", lambda path, data: (written.append(len(data)), real(path, data)))
    with Samples("app", tmp_path) as store:
        for number in range(3000):
            store.keep(picture(number % 250, size=1000), number % 250)
        assert len(written) == 2
    assert len(written) == 3
    assert sum(written) < 3_100_000
    with Samples("app", tmp_path) as store:
        store.flush()
    assert len(written) == 3


def test_flushing_again_replaces_the_same_file(tmp_path: Path) -> None:
    with Samples("app", tmp_path) as store:
        for number in range(20):
            store.keep(picture(number), number)
            store.flush()
            assert kept(tmp_path) == list(range(number + 1))
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_two_programs_lose_nothing_of_each_other(tmp_path: Path) -> None:
    with Samples("app", tmp_path) as one, Samples("app", tmp_path) as other:
        for number in range(0, 40, 2):
            one.keep(picture(number), number)
            other.keep(picture(number + 1), number + 1)
            one.flush()
            if number % 8 == 0:
                other.flush()
    assert sorted(kept(tmp_path)) == list(range(40))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_segment_is_passed_over(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    home = tmp_path_factory.mktemp("home")
    keep(home, range(3))
    keep(home, range(3, 6))
    first = min(home.rglob("*.npz"))
    whole = bytearray(first.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    for place in data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), min_size=1, max_size=3)):
        whole[place : place + 1] = data.draw(st.binary(max_size=1))
    first.write_bytes(whole)
    found = [y for _, y in Samples("app", home)]
    assert found[-3:] == [3, 4, 5]
    assert found in ([3, 4, 5], [0, 1, 2, 3, 4, 5])


def test_with_any_bit_flipped_a_segment_is_read_as_it_was_or_passed_over(tmp_path: Path) -> None:
    with Samples("app", tmp_path) as store:
        store.keep(picture(7, size=4), 7)
    [path] = tmp_path.rglob("*.npz")
    whole, passed = path.read_bytes(), 0
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found = list(Samples("app", tmp_path))
        assert not found or (len(found) == 1 and np.array_equal(found[0][0], picture(7, size=4)) and found[0][1] == 7)
        passed += not found
    assert len(whole) < passed < 8 * len(whole)


def test_a_shape_that_is_damaged_is_seen_in_a_long_file_too(tmp_path: Path) -> None:
    """Whose numbers are then read only in part: the sum over all of them is looked at before."""
    with Samples("app", tmp_path) as store:
        store.keep(picture(7, size=9000), 7)
    [path] = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    assert whole.count(b"(1, 1, 9000)") == 1
    path.write_bytes(whole.replace(b"(1, 1, 9000)", b"(1, 1, 8000)"))
    assert kept(tmp_path) == []


def test_others_files_are_left_alone(tmp_path: Path) -> None:
    keep(tmp_path, range(2))
    folder = tmp_path / "samples" / "app"
    (folder / "notes.npz").write_bytes(b"x")
    (folder / "000000000009.npz").symlink_to(folder / "notes.npz")
    np.savez(folder / "000000000010.npz", x=np.zeros((3, 2)), y=np.zeros(2, int))
    assert kept(tmp_path) == [0, 1]


def test_nobody_else_on_the_device_looks_at_them(tmp_path: Path) -> None:
    keep(tmp_path, range(1))
    assert stat.S_IMODE((tmp_path / "samples").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1, 2], 0, "a numpy array"),
        ({}, 0, "a numpy array"),
        (np.array(["cat"]), 0, "a numpy array"),
        (np.array([object()]), 0, "a numpy array"),
        (np.array([1, np.nan]), 0, "not finite"),
        ({"a": np.zeros(1), "b": np.array([np.inf])}, 0, "not finite"),
        (np.zeros(2), -1, "of class -1"),
        (np.zeros(2), 1 << 31, "of class"),
        (np.zeros(2), 1.5, "no whole number"),
        (np.zeros(2), "cat", "no whole number"),
        (np.zeros(9000), 0, "of 72008 bytes"),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, x: Any, y: Any, said: str) -> None:
    with Samples("app", tmp_path, 256 << 10) as store, pytest.raises(InvalidInput, match=said):
        store.keep(x, y)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "..", "a/b", "A"])
def test_a_name_that_is_none_of_an_app_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError):
        Samples(name, tmp_path)


def cut_everywhere(place: Path, loss: Loss) -> None:
    """There are some, and of those that come some take the room of these."""
    calls, seen, bound = 1000, set(), {"most_bytes": 20 << 10}
    for stop in range(1, calls):
        home = place / str(stop)
        keep(home, range(30), **bound)
        before = kept(home)
        with failing(home, place / "backup", loss, stop) as disk:
            try:
                keep(home, range(30, 60), **bound)
            except OSError:
                assert loss in REFUSALS
        found = kept(home)
        assert found == sorted(found)
        assert set(found) <= {*before, *range(30, 60)}
        seen.add(len(found))
        keep(home, range(60, 70), **bound)
        assert kept(home)[-10:] == list(range(60, 70))
        assert not list(home.rglob(".*.tmp"))
        if not disk.failed:
            break
    assert len(seen) > 1


@pytest.mark.parametrize("loss", ["killed", "disk full"])
def test_a_cut_leaves_whole_segments(tmp_path: Path, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SEGMENT", 2000)
    cut_everywhere(tmp_path, loss)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [each for each in (*CUTS, *REFUSALS) if each not in ("killed", "disk full")])
def test_any_cut_leaves_whole_segments(tmp_path: Path, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SEGMENT", 2000)
    cut_everywhere(tmp_path, loss)


def test_on_a_full_disk_memory_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SEGMENT", 2000)
    store = Samples("app", tmp_path / "home")
    with failing(tmp_path / "home", tmp_path / "backup", "disk full", 1):
        refused = 0
        for number in range(100):
            try:
                store.keep(picture(number), number)
            except OSError:
                refused += 1
        assert refused > 3
        assert len(list(store)) < 20
    store.keep(picture(100), 100)
    store.flush()
    assert kept(tmp_path / "home")[-1] == 100
