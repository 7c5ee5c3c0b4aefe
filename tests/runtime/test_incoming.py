"""Places for what comes in: whose they are, who may remove them, and what is kept of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit_runtime import incoming, processes, receiving, releases, switches
from edgekit_runtime.bundle import blob_path, open_layout
from tests.runtime.bundles import APP, Parcels, blobs, go_live, send, serves, take_in
from tests.runtime.hosts import Host, host


@pytest.fixture
def other(home: Path, parcels: Parcels) -> Iterator[Host]:
    """Another host at work, which has been told what to send."""
    with host() as pushing:
        assert len(pushing.offers(parcels.one)["missing"]) == 4
        yield pushing


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


class TestOfAPushThatDied:
    def test_the_next_one_clears_it(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0)
        other.dies()
        place, _ = releases.missing(home, [])
        assert list((home / "incoming").iterdir()) == [place]

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


@pytest.mark.parametrize("name", ["{boot}-{pid}-1-{digits}", "0-0-{digits}", "{pid}-{digits}", "x"])
def test_a_place_of_nobody_goes(home: Path, name: str) -> None:
    """Of a process before this one with its number, or of an older runtime's."""
    boot, pid, _ = processes.myself().split("-")
    place = home / "incoming" / name.format(boot=boot, pid=pid, digits="0" * 32)
    place.mkdir(parents=True)
    incoming.clear(home)
    assert not place.exists()


class TestOfAHostThatHasHungUp:
    def test_no_place_is_left(self, home: Path, other: Host) -> None:
        """A connection that is lost takes the command's input and output with it."""
        assert len(list((home / "incoming").iterdir())) == 1
        other.process.communicate()
        assert list((home / "incoming").iterdir()) == []

    def test_but_what_had_arrived(self, home: Path, parcels: Parcels, other: Host) -> None:
        other.sends(parcels.one, 0)
        other.process.communicate()
        assert blobs(parcels.one)[0] not in releases.missing(home, blobs(parcels.one))[1]

    @pytest.mark.parametrize("live", [True, False])
    def test_what_came_whole_is_installed_and_not_switched_to(
        self, home: Path, parcels: Parcels, other: Host, live: bool
    ) -> None:
        other.sends(parcels.one, 0, 1, 2, 3)
        digest, signature = parcels.one.digest, open_layout(parcels.one.root)[1]
        order = json.dumps({"digest": digest, "signature": signature, "live": live})
        assert other.process.stdin
        assert other.process.stdout
        other.process.stdout.close()
        print(order, file=other.process.stdin, flush=True)
        other.process.stdin.close()
        assert other.process.wait(60) == 1
        assert releases.pointed(home, APP, "current") == ""
        assert releases.find(home, APP, digest).state.name == ("proven" if live else "installed")
