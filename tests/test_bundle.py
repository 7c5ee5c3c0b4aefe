from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import bundle as bundles
from edgekit import signing
from edgekit.bundle import Contents, write
from edgekit.errors import BundleError, ConfigError
from edgekit.signing import Signer
from edgekit_runtime import manifest as manifests
from edgekit_runtime.bundle import Bundle, open_layout
from edgekit_runtime.interface import Interface
from edgekit_runtime.manifest import EngineNeed, Manifest, ProofLimits
from edgekit_runtime.tensors import TensorSpec
from edgekit_runtime.verify import message
from tests.lab.project import project, tree
from tests.lab.sshd import new_key
from tests.runtime.powercut import CUTS, Loss, failing

__all__ = ["project"]  # a fixture
pytestmark = pytest.mark.usefixtures("project")

IMAGE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = Manifest(
    app="digits",
    version="1.0",
    sequence=7,
    target="raspberry-pi-5",
    arch="aarch64",
    format="onnx",
    precision="int8",
    engines=(EngineNeed("onnxruntime", ">=1.19"),),
    interface=Interface((TensorSpec("x", "float32", (None, 8)),), (TensorSpec("y", "float32", (None, 4)),)),
    proof=ProofLimits(1, 0.1, 0.9),
)
CONTENTS = Contents(MANIFEST, b"model" * 1000, b"golden" * 100)
OTHER = Contents(replace(MANIFEST, sequence=8), b"another model" * 1000, b"golden" * 100)


def place(name: str = "bundle") -> Path:
    return Path.cwd() / name


def put(contents: Contents = CONTENTS, destination: Path | None = None) -> Bundle:
    return write(contents, destination or place(), signing.signer(None))


def blob(root: Path, digest: str) -> bytes:
    algorithm, _, name = digest.partition(":")
    assert algorithm == "sha256"
    return (root / "blobs" / "sha256" / name).read_bytes()


def described(root: Path, descriptor: dict[str, Any]) -> Any:
    """The JSON that a descriptor names, its size and digest checked."""
    data = blob(root, descriptor["digest"])
    assert (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") == (descriptor["size"], descriptor["digest"])
    return json.loads(data) if descriptor["mediaType"].endswith("json") else data


class TestLayout:
    def test_it_is_an_oci_image_layout(self) -> None:
        root = put().root
        assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
        index = json.loads((root / "index.json").read_bytes())
        assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
        assert [(entry["mediaType"], entry["artifactType"]) for entry in index["manifests"]] == [
            (IMAGE, "application/vnd.edgekit.bundle.v1"),
            (IMAGE, "application/vnd.edgekit.signature.v1"),
        ]
        assert index["manifests"][0]["annotations"]["org.opencontainers.image.title"] == "digits"

    def test_the_image_names_config_model_and_golden_vectors(self) -> None:
        root = put().root
        image = described(root, json.loads((root / "index.json").read_bytes())["manifests"][0])
        assert (image["schemaVersion"], image["mediaType"]) == (2, IMAGE)
        assert image["artifactType"] == "application/vnd.edgekit.bundle.v1"
        assert image["config"]["mediaType"] == "application/vnd.edgekit.manifest.v1+json"
        assert described(root, image["config"])["app"] == "digits"
        model, golden = image["layers"]
        assert (model["mediaType"], described(root, model)) == ("application/vnd.edgekit.model.v1+onnx", CONTENTS.model)
        assert (golden["mediaType"], described(root, golden)) == (
            "application/vnd.edgekit.golden.v1+npz",
            CONTENTS.golden,
        )

    def test_the_signature_is_a_referrer_of_the_image(self) -> None:
        root = put().root
        image, signature = json.loads((root / "index.json").read_bytes())["manifests"]
        document = described(root, signature)
        assert {key: document["subject"][key] for key in ("mediaType", "digest", "size")} == {
            key: image[key] for key in ("mediaType", "digest", "size")
        }
        assert (document["config"]["mediaType"], described(root, document["config"])) == (
            "application/vnd.oci.empty.v1+json",
            {},
        )
        (layer,) = document["layers"]
        assert described(root, layer).startswith(b"-----BEGIN SSH SIGNATURE-----")

    def test_every_blob_is_named_by_its_digest_and_none_is_left_over(self) -> None:
        root = put().root
        blobs = {path.name: path.read_bytes() for path in (root / "blobs" / "sha256").iterdir()}
        assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
        assert len(blobs) == 7  # config, model, golden, image; empty, signature, its image
        assert sorted(path.name for path in root.iterdir()) == ["blobs", "index.json", "oci-layout"]

    def test_the_same_contents_give_the_same_bytes(self) -> None:
        put(destination=place("a"))
        put(destination=place("b"))
        one, other = tree(place("a")), tree(place("b"))
        assert one == other

    def test_it_reads_back_as_what_was_written(self) -> None:
        made = put()
        assert (made.manifest, made.read(made.layers[0]), made.read(made.layers[1])) == (
            MANIFEST,
            CONTENTS.model,
            CONTENTS.golden,
        )
        assert manifests.parse(manifests.dump(made.manifest)) == MANIFEST

    def test_plain_openssh_verifies_it(self) -> None:
        key = signing.signer(None)
        made = put()
        (place("allowed")).write_text(key.allowed_line())
        (place("signature")).write_text(open_layout(made.root)[1])
        person = key.allowed_line().split()[0]
        words = ["-Y", "verify", "-n", "edgekit", "-I", person, "-f", place("allowed"), "-s", place("signature")]
        for digest, status in ((made.digest, 0), (made.digest.replace("sha256:", "sha256:0")[:71], 255)):
            done = subprocess.run(["ssh-keygen", *words], input=message(digest), capture_output=True, check=False)
            assert done.returncode == status, done.stderr


class TestReplacing:
    def test_a_new_bundle_takes_the_place_of_the_old_one_and_nothing_of_that_is_left(self) -> None:
        put()
        made = put(OTHER)
        put(OTHER, place("fresh"))
        assert tree(place()) == tree(place("fresh"))
        assert made.manifest.sequence == 8
        assert sorted(path.name for path in Path.cwd().iterdir()) == ["bundle", "fresh"]

    def test_an_empty_folder_is_filled(self) -> None:
        place().mkdir()
        assert put().root == place()

    def test_what_people_put_beside_the_blobs_stays(self) -> None:
        put()
        (place() / "NOTES.md").write_text("mine")
        put(OTHER)
        assert (place() / "NOTES.md").read_text() == "mine"

    def test_the_old_one_stays_when_the_new_one_cannot_be_signed(self) -> None:
        put()
        before = tree(place())
        for key in ("text", "none"):
            place("text").write_text("no key")
            with pytest.raises(ConfigError, match="cannot sign with it"):
                write(OTHER, place(), Signer(place(key)))
            assert tree(place()) == before
        place("text").unlink()
        assert [path.name for path in Path.cwd().iterdir()] == ["bundle"]

    def test_nothing_is_made_when_a_first_one_cannot_be_signed(self) -> None:
        with pytest.raises(ConfigError):
            write(CONTENTS, place("a") / "b", Signer(place("none")))
        assert list(Path.cwd().iterdir()) == []

    @pytest.mark.parametrize("what", ["file", "folder", "images", "layout", "damaged"])
    def test_what_is_no_bundle_is_refused_and_left_alone(self, what: str) -> None:
        if what == "file":
            place().write_text("mine")
        else:
            place().mkdir()
            (place() / "mine.txt").write_text("mine")
        if what in ("images", "layout", "damaged"):
            (place() / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
            entry = {"mediaType": IMAGE, "digest": f"sha256:{'0' * 64}", "size": 3}
            index = {"images": {"manifests": [entry]}, "layout": {"manifests": [{**entry, "artifactType": "x"}]}}
            (place() / "index.json").write_text(json.dumps(index.get(what)))
        before = tree(Path.cwd())
        with pytest.raises(
            BundleError, match="bundle: not empty and not a bundle — choose another place with --output"
        ):
            put()
        assert tree(Path.cwd()) == before

    def test_a_place_below_a_file_is_named(self) -> None:
        place("file").write_text("mine")
        with pytest.raises(BundleError, match="file/bundle: cannot be written: Not a directory"):
            put(destination=place("file") / "bundle")

    def test_a_blob_that_was_damaged_is_put_right(self) -> None:
        made = put()
        for path in (place() / "blobs" / "sha256").iterdir():
            path.write_bytes(b"damaged")
        put()
        assert open_layout(place())[0].read(made.layers[0]) == CONTENTS.model

    def test_one_that_was_never_finished_is_finished(self) -> None:
        put()
        (place() / "index.json").unlink()
        (place() / "blobs" / "sha256" / ".half.tmp").write_text("half")
        put(OTHER)
        put(OTHER, place("fresh"))
        assert tree(place()) == tree(place("fresh"))


class TestTrouble:
    """Whatever happens, the folder is the old bundle or the new one."""

    @pytest.fixture
    def full(self, project: Path) -> Iterator[Path]:
        """A disk of 300 KiB."""
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        disk = project / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "edgekit", disk], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this machine mounts nothing")
        yield disk
        subprocess.run(["umount", disk], check=True)

    def test_a_full_disk_leaves_the_old_bundle_and_no_rubbish(self, full: Path) -> None:
        put(destination=full / "bundle")
        before = tree(full)
        with pytest.raises(BundleError, match="bundle: cannot be written: No space left on device — free or choose"):
            put(replace(OTHER, model=os.urandom(400_000)), full / "bundle")
        assert tree(full) == before
        assert open_layout(full / "bundle")[0].manifest.sequence == 7

    def test_a_full_disk_leaves_nothing_of_a_first_bundle(self, full: Path) -> None:
        with pytest.raises(BundleError, match="No space left on device"):
            put(replace(OTHER, model=os.urandom(400_000)), full / "bundles" / "bundle")
        assert tree(full) == {}
        assert not (full / "bundles" / "bundle").exists()

    @pytest.mark.parametrize(
        "loss",
        [
            *(pytest.param(loss, marks=pytest.mark.slow) for loss in CUTS if loss != "all lost"),
            "all lost",
            "disk full",
        ],
    )
    @pytest.mark.parametrize("old", [pytest.param(True, marks=pytest.mark.slow), False], ids=["replaced", "first"])
    def test_stopped_at_any_call_it_is_the_old_bundle_or_the_new_one(
        self, project: Path, loss: Loss, old: bool
    ) -> None:
        key = Signed(place("key"), signing.signer(None).sign(put(OTHER, place("other")).digest))
        seen = []
        for stop in range(1, 200):
            shutil.rmtree(place(), ignore_errors=True)
            if old:
                write(CONTENTS, place(), key)
            before = tree(place())
            with suppress(BundleError), failing(project, project.parent / "backup", loss, stop) as disk:
                write(OTHER, place(), key)
            seen.append(sequence(place()))
            if loss == "disk full" and seen[-1] != OTHER.manifest.sequence:
                assert tree(place()) == before
            if not disk.failed:
                break
            write(OTHER, place(), key)
            assert tree(place()) == tree(place("other"))
        assert not disk.failed
        first = 7 if old else None
        assert seen == sorted(seen, key=lambda number: number != first), "once new, it stays new"
        assert {seen[0], seen[-1]} == {first, 8}
        assert len(seen) > 30


@dataclass(frozen=True)
class Signed(Signer):
    """Signs everything with a signature that is there already: what is tested here is the writing."""

    signature: str

    def sign(self, digest: str) -> str:
        return self.signature


def sequence(root: Path) -> int | None:
    """Which bundle stands there, all of it read; None when it says itself that there is none."""
    if not (root / "index.json").exists():
        return None
    made, signature = open_layout(root)
    assert signature
    assert all(made.read(layer) for layer in made.layers)
    return made.manifest.sequence


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**62), st.text(max_size=20))
def test_whatever_is_in_it_comes_back(model: bytes, golden: bytes, sequence: int, version: str) -> None:
    manifest = replace(MANIFEST, sequence=sequence, version=version)
    made = bundles.write(Contents(manifest, model, golden), place(), signing.signer(None))
    assert (made.manifest, made.read(made.layers[0]), made.read(made.layers[1])) == (manifest, model, golden)


def test_a_key_of_ones_own_signs_as_well() -> None:
    made = write(CONTENTS, place(), signing.signer(new_key(place("key"))))
    assert open_layout(made.root)[1].startswith("-----BEGIN SSH SIGNATURE-----")
