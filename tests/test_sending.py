"""Sending to a device that has something already: how many bytes go over, and what is told meanwhile."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from edgekit import copies, sending, transports, user_cache
from edgekit.fleet import Device
from edgekit.push import Parcel, open_parcel
from edgekit.sending import Meter, Part
from edgekit.transports import Transport
from edgekit_runtime import similar
from edgekit_runtime.bundle import Descriptor, blob_path
from edgekit_runtime.patch import CHUNK
from tests.lab.bundles import contents, make_bundle
from tests.lab.project import desk, project
from tests.lab.sent import send

__all__ = ["desk", "project"]  # fixtures

SIZE = 16 * CHUNK
NUMBERS = count(1)
AROUND = 8_000
"""More than image, manifest and golden vectors of the digits."""


@pytest.fixture
def link(desk: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transport]:
    """The way to the desk, from a host that has sent nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with transports.connect(desk.uri) as opened:
        yield opened


def parcel(folder: Path, model: bytes) -> Parcel:
    number = next(NUMBERS)
    return open_parcel(make_bundle(folder / f"{number}", replace(contents(), model=model), sequence=number).root)


def weights(seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=SIZE) * 30


def int8(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bytes:
    return np.rint(values).astype(np.int8).tobytes()


class TestToADeviceWithARelease:
    @pytest.mark.parametrize("known", [True, False])
    def test_only_what_changed_goes_over(self, project: Path, link: Transport, known: bool) -> None:
        old = int8(weights())
        send(parcel(project, old), link)
        if not known:
            shutil.rmtree(user_cache.path(copies.KIND))
        assert send(parcel(project, old[:-CHUNK] + int8(weights(1))[:CHUNK]), link) < CHUNK + AROUND

    def test_of_what_was_trained_on_the_differences(self, project: Path, link: Transport) -> None:
        """Where the host has a copy of what the device has; else all of it, deflated."""
        old = weights()
        whole = send(parcel(project, int8(old)), link)
        new = old + 0.02 * weights(1)
        assert send(parcel(project, int8(new)), link) < whole / 3
        shutil.rmtree(user_cache.path(copies.KIND))
        assert whole / 2 < send(parcel(project, int8(new + 0.02 * weights(2))), link) < 1.01 * whole

    def test_a_copy_that_was_damaged_is_not_built_upon(self, project: Path, link: Transport) -> None:
        old = parcel(project, int8(weights()))
        send(old, link)
        [copy] = [path for path in user_cache.path(copies.KIND).iterdir() if path.stat().st_size == SIZE]
        copy.unlink()
        copy.write_bytes(bytes(SIZE))
        new = parcel(project, int8(weights() + 0.02 * weights(1)))
        assert send(new, link) > SIZE / 2

    def test_a_blob_of_the_device_that_was_damaged_is_not_built_upon(self, project: Path, link: Transport) -> None:
        old = parcel(project, int8(weights()))
        send(old, link)
        blob_path(project / "desk", old.bundle.layers[0].digest).write_bytes(bytes(SIZE))
        assert send(parcel(project, int8(weights())[:-1] + b"x"), link) > SIZE / 2

    def test_the_same_again_sends_nothing(self, project: Path, link: Transport) -> None:
        made = parcel(project, int8(weights()))
        told: list[str] = []
        assert send(made, link, told.append) > 0
        assert [line.split()[1] for line in told] == ["image,", "manifest,", "model,", "golden,", "calibration,"]
        assert send(made, link, told[:0]) == 0


class TestCopies:
    def test_few_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(copies, "MOST", 2)
        for number in range(4):
            (tmp_path / f"{number}").write_bytes(bytes(similar.LEAST))
            copies.remember([tmp_path / f"{number}"])
        (tmp_path / "small").write_bytes(bytes(10))
        copies.remember([tmp_path / "small"])
        assert sorted(copies.known()) == ["2", "3"]
        monkeypatch.setattr(copies, "MOST_BYTES", similar.LEAST)
        copies.remember([tmp_path / "2"])
        assert copies.known() == ["2"]

    def test_a_cache_that_cannot_be_written_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        copies.remember([tmp_path / "file"])
        assert copies.known() == []
        assert copies.opened(f"sha256:{'0' * 64}") is None


def test_rate_and_time_left_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(sending, "monotonic", lambda: now[0])
    told: list[str] = []
    meter = Meter(4 << 20, told.append)
    blob = Descriptor("application/vnd.edgekit.model.v1+onnx", f"sha256:{'0' * 64}", 4 << 20)
    meter.begin(Part(blob, np.zeros(0, np.uint8), 0))
    for _ in range(4):
        now[0] += 0.5
        meter.go()
        now[0] += 1
        meter.add(1 << 20, 3 << 18)
    assert told == ["sending model, 4194304 bytes", "sending model: 75%, 512 KiB/s, 2 s left"]
    assert meter.sent == 3 << 20


class TestWhatADeviceNames:
    def store(self, home: Path, size: int, number: int) -> str:
        data = number.to_bytes(2, "big") * (size // 2)
        digest = hashlib.sha256(data).hexdigest()
        (home / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (home / "blobs/sha256" / digest).write_bytes(data)
        return digest

    def test_the_nearest_with_sums_and_those_that_the_host_knows(self, tmp_path: Path) -> None:
        near, far, other = (self.store(tmp_path, size, n) for n, size in enumerate((100_000, 300_000, 200_000)))
        self.store(tmp_path, 1000, 9)
        wanted = Descriptor("", f"sha256:{'0' * 64}", 110_000)
        told = similar.bases(tmp_path, [wanted], [far[: similar.PREFIX]])
        assert [each["digest"][7:] for each in told] == [near, far]
        assert ["sums" in each for each in told] == [True, False]
        told = similar.bases(tmp_path, [wanted], [near[: similar.PREFIX], other[: similar.PREFIX]])
        assert [("sums" in each, each["digest"][7:]) for each in told] == [(False, near), (False, other)]

    def test_nothing_for_small_blobs(self, tmp_path: Path) -> None:
        self.store(tmp_path, 100_000, 1)
        assert similar.bases(tmp_path, [Descriptor("", f"sha256:{'0' * 64}", 1000)], []) == []
