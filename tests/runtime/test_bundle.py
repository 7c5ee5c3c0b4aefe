"""A bundle is what its digest names, every byte of it; everything else is refused before a parser sees it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit_runtime
from edgekit.signing import Signer
from edgekit_runtime import arrays, bundle, engines, prove, releases
from edgekit_runtime.bundle import ARTIFACT_TYPE, IMAGE_TYPE, Bundle, Descriptor, blob_path, open_bundle, open_layout
from edgekit_runtime.errors import BundleError, BundleTooLarge, DigestMismatch
from edgekit_runtime.manifest import canonical
from tests.runtime.bundles import blobs, contents, install, send, write
from tests.runtime.values import GARBAGE, almost

SHA = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Bundle:
    return write(tmp_path_factory.mktemp("pristine") / "bundle", signer)


@pytest.fixture
def parcel(pristine: Bundle, tmp_path: Path) -> Bundle:
    """A bundle that a test may damage."""
    shutil.copytree(pristine.root, tmp_path / "bundle")
    return open_layout(tmp_path / "bundle")[0]


@pytest.fixture
def no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine and no reader of arrays may be reached."""

    def reached(*arguments: Any) -> NoReturn:
        raise AssertionError("bytes that were not checked came to a parser")

    monkeypatch.setattr(engines, "load", reached)
    monkeypatch.setattr(arrays, "load", reached)


def regions(parcel: Bundle) -> dict[str, Path]:
    index = json.loads((parcel.root / "index.json").read_bytes())["manifests"]
    signature = json.loads(blob_path(parcel.root, index[1]["digest"]).read_bytes())
    model, golden = parcel.layers
    named = {
        "image": parcel.digest,
        "config": parcel.config.digest,
        "model": model.digest,
        "golden": golden.digest,
        "signature image": index[1]["digest"],
        "signature": signature["layers"][0]["digest"],
    }
    return {"index": parcel.root / "index.json"} | {key: blob_path(parcel.root, d) for key, d in named.items()}


def places(size: int) -> list[int]:
    """The ends, and some in between; always the same ones."""
    return sorted({0, 1, size // 2, size - 2, size - 1, *random.Random(size).sample(range(size), 6)})


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << (place % 8)
    path.write_bytes(data)


def use(parcel: Bundle) -> None:
    """All that a host or a device does with a bundle's bytes."""
    opened, _ = open_layout(parcel.root)
    opened.check()
    for layer in opened.layers:
        opened.read(layer)


class TestOneFlippedBit:
    @pytest.mark.parametrize("region", ["image", "config", "model", "golden", "signature image", "signature"])
    def test_in_a_blob_it_is_refused(self, parcel: Bundle, region: str) -> None:
        path = regions(parcel)[region]
        whole = path.read_bytes()
        for place in places(len(whole)):
            flip(path, place)
            with pytest.raises(DigestMismatch):
                use(parcel)
            path.write_bytes(whole)
        use(parcel)

    @settings(deadline=None, max_examples=200)
    @given(data=st.data())
    def test_in_the_index_it_is_refused_or_changes_nothing(self, pristine: Bundle, data: st.DataObject) -> None:
        path = pristine.root / "index.json"
        whole = path.read_bytes()
        flip(path, data.draw(st.integers(0, len(whole) - 1)))
        try:
            opened, signature = open_layout(pristine.root)
            assert (opened, signature) in [(pristine, signed) for signed in ("", signature_of(pristine))]
        except BundleError:
            pass
        finally:
            path.write_bytes(whole)

    @pytest.mark.parametrize("region", ["image", "config", "model", "golden"])
    def test_no_parser_sees_it_on_a_host(self, parcel: Bundle, region: str, no_parser: None) -> None:
        flip(regions(parcel)[region], 40)
        with pytest.raises(DigestMismatch):
            edgekit_runtime.load(parcel.root) if region != "golden" else prove.prove(open_layout(parcel.root)[0])

    @pytest.mark.parametrize("region", ["image", "config", "model", "golden"])
    def test_no_parser_sees_it_on_a_device(self, parcel: Bundle, region: str, home: Path, no_parser: None) -> None:
        _, signature = open_layout(parcel.root)
        place = send(parcel, home)
        flip(place / regions(parcel)[region].name, 40)
        with pytest.raises(DigestMismatch):
            releases.install(home, place, parcel.digest, signature)
        assert list((home / "incoming").iterdir()) == []
        assert not (home / "apps").exists()

    def test_no_parser_sees_it_after_it_was_installed(self, parcel: Bundle, home: Path, no_parser: None) -> None:
        release = install(parcel, home)
        for layer in release.bundle.layers:
            flip(blob_path(home, layer.digest), 40)
        with pytest.raises(DigestMismatch):
            prove.prove(release.bundle)


def signature_of(parcel: Bundle) -> str:
    return regions(parcel)["signature"].read_text()


class TestWhatIsNoBundle:
    def test_a_missing_blob(self, parcel: Bundle) -> None:
        for region, path in regions(parcel).items():
            whole = path.read_bytes()
            path.unlink()
            with pytest.raises(BundleError, match=r"missing|no such bundle|no index\.json"):
                use(parcel)
            path.write_bytes(whole)
            assert open_layout(parcel.root)[0] == parcel, region

    @pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
    @pytest.mark.timeout(60)
    def test_a_blob_that_is_no_plain_file(self, parcel: Bundle, tmp_path: Path, kind: str) -> None:
        for region, path in regions(parcel).items():
            if region == "index":
                continue
            path.rename(tmp_path / "aside")
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(tmp_path / ("aside" if kind == "link" else "nowhere"))
            with pytest.raises(BundleError):
                use(parcel)
            path.rmdir() if kind == "folder" else path.unlink()
            (tmp_path / "aside").rename(path)
        use(parcel)

    def test_more_bytes_than_were_declared(self, parcel: Bundle) -> None:
        for region in ("config", "model", "golden"):
            path = regions(parcel)[region]
            whole = path.read_bytes()
            path.write_bytes(whole + b"\0")
            with pytest.raises(BundleTooLarge):
                use(parcel)
            path.write_bytes(whole)

    def test_an_index_of_more_than_four_mebibytes(self, parcel: Bundle) -> None:
        path = parcel.root / "index.json"
        path.write_bytes(path.read_bytes() + b" " * (bundle.SMALL + 1))
        with pytest.raises(BundleError, match="too large"):
            open_layout(parcel.root)

    @pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
    def test_garbage_for_an_index(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "index.json").write_bytes(data)
        with pytest.raises(BundleError):
            open_layout(tmp_path)

    @settings(deadline=None)
    @given(data=st.data())
    def test_almost_an_index(self, pristine: Bundle, data: st.DataObject) -> None:
        path = pristine.root / "index.json"
        whole = path.read_bytes()
        text = data.draw(almost(json.loads(whole)))
        try:
            path.write_text(text)
            assert open_layout(pristine.root)[0] == pristine
        except BundleError:
            pass
        finally:
            path.write_bytes(whole)

    def test_a_folder_without_one_says_what_makes_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
            with pytest.raises(BundleError, match=r"not a bundle \(no index.json\)") as caught:
                open_layout(place)
            assert caught.value.hint == "'edgekit build' makes one"

    def test_an_index_that_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "index.json").mkdir()
        with pytest.raises(BundleError):
            open_layout(tmp_path)

    def test_two_bundles_in_one_folder(self, parcel: Bundle) -> None:
        path = parcel.root / "index.json"
        index = json.loads(path.read_bytes())
        index["manifests"].append(index["manifests"][0])
        path.write_bytes(canonical(index))
        with pytest.raises(BundleError, match="2 bundles"):
            open_layout(parcel.root)


class TestWhatAnImageSays:
    """Images whose digests are right, as somebody who can write the index could make them."""

    def put(self, parcel: Bundle, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blob_path(parcel.root, digest).write_bytes(data)
        return digest

    def image(self, parcel: Bundle) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(blob_path(parcel.root, parcel.digest).read_bytes())
        return document

    @pytest.mark.parametrize("data", GARBAGE, ids=lambda data: repr(data[:12]))
    def test_garbage(self, parcel: Bundle, data: bytes) -> None:
        with pytest.raises(BundleError):
            open_bundle(parcel.root, self.put(parcel, data))

    @settings(deadline=None)
    @given(data=st.data())
    def test_almost_an_image(self, pristine: Bundle, data: st.DataObject) -> None:
        digest = self.put(pristine, data.draw(almost(self.image(pristine))).encode())
        try:
            opened = open_bundle(pristine.root, digest)
        except BundleError:
            return
        finally:
            blob_path(pristine.root, digest).unlink()
        assert opened.manifest == pristine.manifest

    @pytest.mark.parametrize(
        "change",
        [
            {"size": -1},
            {"size": 2**32 + 1},
            {"size": "7"},
            {"size": 7.0},
            {"size": True},
            {"digest": "sha256:../../etc/passwd"},
            {"digest": "sha256:" + "0" * 63 + "/"},
            {"digest": "sha256:" + "A" * 64},
            {"digest": "sha512:" + "0" * 64},
            {"digest": SHA + "\n"},
            {"digest": None},
            {"digest": [SHA]},
            {"mediaType": None},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("part", ["config", "layers"])
    def test_a_descriptor_that_cannot_be(self, parcel: Bundle, part: str, change: dict[str, Any]) -> None:
        image = self.image(parcel)
        target = image["config"] if part == "config" else image["layers"][0]
        target.update(change)
        with pytest.raises(BundleError, match="not an edgekit bundle"):
            open_bundle(parcel.root, self.put(parcel, canonical(image)))

    def test_a_config_of_more_than_four_mebibytes(self, parcel: Bundle) -> None:
        image = self.image(parcel)
        image["config"]["size"] = bundle.SMALL + 1
        with pytest.raises(BundleError):
            open_bundle(parcel.root, self.put(parcel, canonical(image)))

    def test_an_image_of_something_else(self, parcel: Bundle) -> None:
        image = {**self.image(parcel), "artifactType": "application/vnd.helm"}
        with pytest.raises(BundleError, match=r"type 'application/vnd\.helm' is no edgekit bundle"):
            open_bundle(parcel.root, self.put(parcel, canonical(image)))

    def test_a_layer_that_is_not_there(self, parcel: Bundle) -> None:
        image = {**self.image(parcel), "layers": []}
        opened = open_bundle(parcel.root, self.put(parcel, canonical(image)))
        with pytest.raises(BundleError, match=r"no layer application/vnd\.edgekit\.model"):
            opened.layer(bundle.MODEL_TYPE)


class TestPaths:
    @pytest.mark.parametrize(
        "digest",
        ["", "sha256:", "sha256:../../etc", "sha256:/etc/passwd", "../..", "sha256:" + "0" * 65, "sha256:\0", "0" * 64],
    )
    def test_only_a_digest_names_a_blob(self, tmp_path: Path, home: Path, digest: str) -> None:
        wrong: list[Callable[[], object]] = [
            lambda: blob_path(tmp_path, digest),
            lambda: open_bundle(tmp_path, digest),
            lambda: bundle.read_blob(tmp_path, Descriptor(IMAGE_TYPE, digest, 1)),
            lambda: releases.install(home, home / "incoming" / "place", digest, "signature"),
        ]
        for call in wrong:
            with pytest.raises(BundleError, match="is no sha256 digest"):
                call()

    def test_parts_of_two_bundles_do_not_mix(self, parcel: Bundle, tmp_path: Path, signer: Signer, home: Path) -> None:
        other = write(tmp_path / "other", signer, contents(2))
        for mine, theirs in zip(parcel.layers, other.layers, strict=True):
            whole = blob_path(parcel.root, mine.digest).read_bytes()
            shutil.copyfile(blob_path(other.root, theirs.digest), blob_path(parcel.root, mine.digest))
            with pytest.raises((DigestMismatch, BundleTooLarge)):
                use(parcel)
            blob_path(parcel.root, mine.digest).write_bytes(whole)
        with pytest.raises(BundleError, match="signature"):
            releases.install(home, send(parcel, home), parcel.digest, open_layout(other.root)[1])

    def test_blobs_of_a_bundle_are_all_listed(self, parcel: Bundle) -> None:
        regular = {blob_path(parcel.root, blob.digest).name for blob in blobs(parcel)}
        assert {path.name for path in regions(parcel).values()} > regular
        assert len(regular) == 4


def test_the_signature_of_an_unsigned_bundle_is_empty(parcel: Bundle) -> None:
    path = parcel.root / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"] = [entry for entry in index["manifests"] if entry["artifactType"] == ARTIFACT_TYPE]
    path.write_bytes(canonical(index))
    assert open_layout(parcel.root) == (parcel, "")


@pytest.mark.parametrize(
    "layers", [None, [], [5], ["x"], [{}], [{"mediaType": "x", "digest": "sha256:../..", "size": 1}]], ids=str
)
def test_a_signature_that_is_none_is_refused(parcel: Bundle, layers: Any) -> None:
    data = canonical({"artifactType": bundle.SIGNATURE_TYPE, "layers": layers})
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blob_path(parcel.root, digest).write_bytes(data)
    path = parcel.root / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"][1] |= {"digest": digest, "size": len(data)}
    path.write_bytes(canonical(index))
    with pytest.raises(BundleError, match="signature cannot be read"):
        open_layout(parcel.root)
