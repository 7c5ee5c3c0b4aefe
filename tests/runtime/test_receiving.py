"""What a device takes in: of a signed bundle only, its blobs only, never more bytes than were signed."""

from __future__ import annotations

import io
import shutil
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from edgekit_runtime import incoming, patch, receiving, releases, verify
from edgekit_runtime.bundle import IMAGE_TYPE, SMALL, Bundle, Descriptor, blob_path, open_layout
from edgekit_runtime.errors import BundleError, SignatureError
from edgekit_runtime.patch import PLAIN, Cut, Frame
from edgekit_runtime.receiving import Order
from tests.runtime.bundles import Parcels, blobs, take_in
from tests.runtime.powercut import CUTS, Loss, failing


def plain(data: bytes) -> bytes:
    return Frame(PLAIN, 0, len(data), 0, len(data)).pack() + data


def stream(parcel: Bundle) -> bytes:
    return b"".join(plain(blob_path(parcel.root, blob.digest).read_bytes()) for blob in blobs(parcel))


def order(parcel: Bundle, **changes: Any) -> Order:
    made = Order(parcel.digest, open_layout(parcel.root)[1], tuple((blob, 0) for blob in blobs(parcel)), ())
    return replace(made, **changes)


@pytest.fixture
def place(home: Path) -> Path:
    return incoming.make(home)


def refused(home: Path, place: Path, wanted: Order, data: bytes, kind: type[BundleError]) -> None:
    """Nothing stays of it, either."""
    with pytest.raises(kind) as caught:
        receiving.receive(home, place, wanted, io.BytesIO(data))
    assert not isinstance(caught.value, Cut)
    assert not place.exists()


def test_a_bundle(home: Path, place: Path, parcels: Parcels) -> None:
    receiving.receive(home, place, order(parcels.one), io.BytesIO(stream(parcels.one)))
    assert take_in(parcels.one, home, place).state.name == "installed"


def test_one_that_is_not_signed_writes_nothing(home: Path, place: Path, parcels: Parcels) -> None:
    refused(home, place, order(parcels.one, signature=""), stream(parcels.one), SignatureError)


def test_a_blob_that_is_no_part_of_it(home: Path, place: Path, parcels: Parcels) -> None:
    foreign = blobs(parcels.two)[2]
    wanted = order(parcels.one, blobs=((blobs(parcels.one)[0], 0), (foreign, 0)))
    refused(home, place, wanted, stream(parcels.one), BundleError)


def test_a_blob_of_another_size_than_was_signed(home: Path, place: Path, parcels: Parcels) -> None:
    image, model = blobs(parcels.one)[0], blobs(parcels.one)[2]
    wanted = order(parcels.one, blobs=((image, 0), (replace(model, size=model.size + 1), 0)))
    refused(home, place, wanted, stream(parcels.one), BundleError)


def test_an_image_that_is_no_such(home: Path, place: Path, parcels: Parcels) -> None:
    first, *rest = blobs(parcels.one)
    wanted = order(parcels.one, blobs=tuple((each, 0) for each in (first, *rest)))
    refused(home, place, wanted, plain(bytes(first.size)) + stream(parcels.one), BundleError)
    too_large = Descriptor(IMAGE_TYPE, parcels.one.digest, SMALL + 1)
    refused(home, incoming.make(home), order(parcels.one, blobs=((too_large, 0),)), b"", BundleError)


@pytest.mark.parametrize("base", ["sha256:../trust/allowed_signers", "no digest"])
def test_a_base_is_a_blob(home: Path, place: Path, parcels: Parcels, base: str) -> None:
    refused(home, place, order(parcels.one, bases=(base,)), stream(parcels.one), BundleError)


def test_a_base_that_is_not_here(home: Path, place: Path, parcels: Parcels) -> None:
    wanted = order(parcels.one, bases=(f"sha256:{'0' * 64}",))
    with pytest.raises(FileNotFoundError):
        receiving.receive(home, place, wanted, io.BytesIO(stream(parcels.one)))
    assert not place.exists()


def test_a_cut_keeps_what_came_for_the_next_push(home: Path, place: Path, parcels: Parcels) -> None:
    data, (image, config, *_) = stream(parcels.one), blobs(parcels.one)
    with pytest.raises(Cut):
        receiving.receive(home, place, order(parcels.one), io.BytesIO(data[: image.size + config.size + 30]))
    _, lacking = releases.missing(home, blobs(parcels.one))
    assert image not in lacking
    assert config in lacking


def test_no_more_is_taken_as_kept_than_is_there(home: Path, place: Path, parcels: Parcels) -> None:
    image = blobs(parcels.one)[0]
    refused(home, place, order(parcels.one, blobs=((image, image.size),)), b"", BundleError)


def test_a_link_is_not_written_through(home: Path, place: Path, parcels: Parcels) -> None:
    aim = home / "trust" / "allowed_signers"
    before = aim.read_bytes()
    incoming.arrived(place, blobs(parcels.one)[0]).symlink_to(aim)
    with pytest.raises(OSError, match="symbolic links"):
        receiving.receive(home, place, order(parcels.one), io.BytesIO(stream(parcels.one)))
    assert aim.read_bytes() == before


def test_kept_chunks_are_told(place: Path) -> None:
    blob = Descriptor("", f"sha256:{'1' * 64}", 10 * patch.CHUNK)
    assert receiving.kept(place, blob) is None
    incoming.arrived(place, blob).write_bytes(b"a" * patch.CHUNK + b"b")
    told = {"digest": blob.digest, "size": patch.CHUNK + 1}
    chunks = receiving.told_of(b"a" * patch.CHUNK) + receiving.told_of(b"b")
    assert receiving.kept(place, blob) == {**told, "chunks": chunks}


def known_again(place: Path, blob: Descriptor, data: bytes) -> int:
    """What a host takes as kept: the chunks that are the right ones."""
    told, good = receiving.kept(place, blob), 0
    for start in range(0, told["size"] if told else 0, patch.CHUNK):
        chunk = data[start : min(start + patch.CHUNK, told["size"])] if told else b""
        if told and told["chunks"][start // patch.CHUNK * 16 :][:16] == receiving.told_of(chunk):
            good = start + len(chunk)
    return good


def again(home: Path, parcel: Bundle) -> None:
    """The next push, which goes on with what is there."""
    place, lacking = releases.missing(home, blobs(parcel))
    data = {blob.digest: blob_path(parcel.root, blob.digest).read_bytes() for blob in lacking}
    kept = [(blob, known_again(place, blob, data[blob.digest])) for blob in lacking]
    rest = b"".join(plain(data[blob.digest][start:]) for blob, start in kept if start < blob.size)
    receiving.receive(home, place, order(parcel, blobs=tuple(kept)), io.BytesIO(rest))
    assert take_in(parcel, home, place).state.name == "installed"


@pytest.mark.parametrize("loss", [*CUTS, "disk full"])
def test_whatever_call_is_the_last_one_the_next_push_succeeds(
    home: Path, parcels: Parcels, loss: Loss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "verify", cache(verify.verify))
    shutil.copytree(home, tmp_path / "start")
    for stop in count(1):
        place = incoming.make(home)
        with failing(home, tmp_path / "backup", loss, stop) as disk, suppress(OSError):
            receiving.receive(home, place, order(parcels.one), io.BytesIO(stream(parcels.one)))
        assert not (loss == "disk full" and disk.failed and place.exists())
        again(home, parcels.one)
        if not disk.failed:
            break
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "start", home)
    assert stop > 2 * len(blobs(parcels.one))
