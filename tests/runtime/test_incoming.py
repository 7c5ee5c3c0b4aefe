"""Places for what comes in: whose they are, who may remove them, and what is kept of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit_runtime import incoming, receiving, releases, switches
from edgekit_runtime.bundle import Bundle, blob_path, open_layout
from edgekit_runtime.errors import DeviceError
from tests.runtime.bundles import APP, Parcels, blobs, go_live, send, serves, take_in

HOST = """\
import subprocess, sys
command = [sys.executable, "-m", "edgekit_runtime", "missing"]
subprocess.run(command, input=sys.stdin.buffer.readline(), start_new_session=True, check=True)
sys.stdin.read()
"""
"""What a host does with a folder as device: it lives on while each command has a session of its own."""


@dataclass
class Host:
    """Another host at work, and the place that the device has given it."""

    process: subprocess.Popen[bytes]
    place: Path

    def sends(self, parcel: Bundle, *names: int) -> None:
        for blob in [blobs(parcel)[n] for n in names]:
            shutil.copyfile(blob_path(parcel.root, blob.digest), self.place / blob.digest[7:])

    def dies(self) -> None:
        self.process.kill()
        until_dead = time.monotonic() + 10
        while Path(f"/proc/{self.process.pid}/stat").read_text().split()[2] != "Z":  # and nobody has asked for it yet
            assert time.monotonic() < until_dead


@pytest.fixture
def other(home: Path, parcels: Parcels) -> Iterator[Host]:
    with subprocess.Popen([sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        asked = json.dumps({"blobs": [blob.as_dict() for blob in blobs(parcels.one)]})
        process.stdin.write(f"{asked}\n".encode())
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert len(answer["missing"]) == 4
        yield Host(process, Path(answer["incoming"]))
        process.kill()


class TestOfAPushThatLives:
    def test_another_push_leaves_it_alone(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0, 1, 2, 3)
        go_live(parcels.other, home)
        assert list((home / "incoming").iterdir()) == [other.place]
        release = releases.mark(take_in(parcels.one, home, other.place), "proven")
        switches.activate(home, release.bundle.manifest.app, release.digest)
        assert serves(parcels.one)
        assert list((home / "incoming").iterdir()) == []

    def test_what_it_has_sent_whole_need_not_be_sent_twice(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0, 2)
        place, lacking = releases.missing(home, blobs(parcels.one))
        assert lacking == [blobs(parcels.one)[n] for n in (1, 3)]
        take_in(parcels.one, home, send(parcels.one, home))
        other.sends(parcels.one, 1, 3)
        assert take_in(parcels.one, home, other.place).state.name == "installed"
        assert list((home / "incoming").iterdir()) == [place]

    def test_a_day_without_a_byte_is_too_long(
        self, home: Path, parcels: Parcels, other: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other.sends(parcels.one, 0)
        os.utime(other.place, (0, 0))
        incoming.clear(home)
        assert other.place.exists()  # the file in it is younger
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + incoming.QUIET_S + 60)
        incoming.clear(home)
        assert not other.place.exists()


class TestOfAPushThatDied:
    def test_the_next_one_clears_it(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0)
        other.dies()
        releases.missing(home, [])
        assert not other.place.exists()

    def test_blobs_that_arrived_whole_are_kept(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0, 1, 2, 3)
        (half, spoilt) = (other.place / blobs(parcels.one)[n].digest[7:] for n in (2, 3))
        os.truncate(half, half.stat().st_size // 2)
        spoilt.write_bytes(bytes(spoilt.stat().st_size))
        other.dies()
        place, lacking = releases.missing(home, blobs(parcels.one))
        assert lacking == blobs(parcels.one)[2:]
        assert list((home / "incoming").iterdir()) == [place]
        left = [receiving.kept(place, blob) for blob in lacking]
        assert [kept["size"] for kept in left if kept] == [lacking[0].size // 2, lacking[1].size]

    def test_a_link_is_not_kept(self, home: Path, parcels: Parcels, other: Host) -> None:
        image = blobs(parcels.one)[0]
        (other.place / image.digest[7:]).symlink_to(blob_path(parcels.one.root, image.digest))
        other.dies()
        assert image in releases.missing(home, blobs(parcels.one))[1]


def test_a_place_whose_process_cannot_be_told_stays_for_a_day(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getsid", lambda pid: 0)  # a session from outside this container
    place = incoming.make(home)
    assert place.name.startswith("0-0-")
    incoming.clear(home)
    assert place.exists()
    os.utime(place, (0, 0))
    incoming.clear(home)
    assert not place.exists()


def test_a_number_that_another_process_has_now_is_not_the_same(home: Path) -> None:
    place = home / "incoming" / f"{os.getpid()}-1-{'0' * 32}"
    place.mkdir(parents=True)
    incoming.clear(home)
    assert not place.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../trust", "incoming/x", "0-0-1", f"0-0-{'0' * 32}/.."])
def test_a_host_names_nothing_else(home: Path, name: str) -> None:
    with pytest.raises(DeviceError, match="no place for what comes in"):
        incoming.named(home, f"{home}/incoming/{name}")
    assert incoming.named(home, f"{home}/incoming/0-0-{'0' * 32}").parent == home / "incoming"


class TestOfAHostThatHasHungUp:
    def left_alone(self, word: str, asked: dict[str, Any]) -> int:
        """A command whose answer nobody reads any more."""
        pipe, words = subprocess.PIPE, [sys.executable, "-m", "edgekit_runtime", word]
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.close()
            process.stdin.write(f"{json.dumps(asked)}\n".encode())
            process.stdin.close()
            return process.wait(60)

    def test_no_place_is_left(self, home: Path, parcels: Parcels) -> None:
        assert self.left_alone("missing", {"blobs": [blob.as_dict() for blob in blobs(parcels.one)]})
        assert list((home / "incoming").iterdir()) == []

    def test_nor_by_a_command_that_outlived_its_session(self, home: Path, parcels: Parcels) -> None:
        asked = json.dumps({"blobs": [blob.as_dict() for blob in blobs(parcels.one)]})
        script = f'(sleep 0.3; "{sys.executable}" -m edgekit_runtime missing) <&3 3<&- &'
        words, place = ["sh", "-c", f"exec 3<&0; {script}"], home / "incoming"
        ran = subprocess.run(words, input=asked.encode(), stdout=subprocess.PIPE, start_new_session=True, timeout=60)
        assert json.loads(ran.stdout)["error"]["message"] == "the host that asked has gone"
        assert not place.exists() or list(place.iterdir()) == []

    @pytest.mark.parametrize("live", [True, False])
    def test_what_came_whole_is_installed_and_not_switched_to(self, home: Path, parcels: Parcels, live: bool) -> None:
        digest, signature = parcels.one.digest, open_layout(parcels.one.root)[1]
        asked = {"digest": digest, "signature": signature, "incoming": str(send(parcels.one, home)), "live": live}
        assert self.left_alone("install", asked)
        assert releases.pointed(home, APP, "current") == ""
        assert releases.find(home, APP, digest).state.name == ("proven" if live else "installed")
