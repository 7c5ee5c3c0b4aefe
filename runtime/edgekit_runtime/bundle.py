"""Reading a bundle: an OCI image layout 1.1 on the host, or the blobs of a device; every byte by its digest.

Nothing is parsed before its digest has been checked, but ``index.json``, which only names the digest to begin with.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit_runtime import durable, fields, manifest
from edgekit_runtime.errors import BundleError
from edgekit_runtime.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.edgekit.bundle.v1"
CONFIG_TYPE = "application/vnd.edgekit.manifest.v1+json"
MODEL_TYPE = "application/vnd.edgekit.model.v1"
GOLDEN_TYPE = "application/vnd.edgekit.golden.v1+npz"
SIGNATURE_TYPE = "application/vnd.edgekit.signature.v1"

SMALL = 4 << 20
"""The most bytes that an index, an image manifest or a config may have."""
LARGE = 4 << 30
"""The most bytes that one layer may have."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Descriptor:
    """A blob by media type, digest and size in bytes (OCI content descriptor)."""

    media_type: str
    digest: str
    size: int

    @staticmethod
    def of(document: dict[str, Any], limit: int) -> Descriptor:
        """Raises: ValueError, TypeError, KeyError for what is no descriptor, or one of more than ``limit`` bytes."""
        media_type, digest = fields.text(document["mediaType"]), fields.text(document["digest"])
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest[:80]!r} is no sha256 digest")
        return Descriptor(media_type, digest, fields.count(document["size"], most=limit))

    def as_dict(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose image and manifest have been checked against ``digest``; layers are when they are read."""

    root: Path
    digest: str
    manifest: Manifest
    config: Descriptor
    layers: tuple[Descriptor, ...]

    def layer(self, media_type: str) -> Descriptor:
        """The first layer whose media type begins so. Raises: BundleError."""
        for layer in self.layers:
            if layer.media_type.startswith(media_type):
                return layer
        raise BundleError(f"the bundle has no layer {media_type}")

    def read(self, descriptor: Descriptor) -> bytes:
        """A blob's bytes, checked. Raises: DigestMismatch, BundleTooLarge, BundleError."""
        return read_blob(self.root, descriptor)

    def check(self) -> None:
        """Check the bytes of every layer. Raises: DigestMismatch, BundleTooLarge, BundleError."""
        for layer in self.layers:
            check_blob(self.root, layer)


def blob_path(root: Path, digest: str) -> Path:
    """Where a digest's blob lies under a layout or a home. Raises: BundleError for what is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise BundleError(f"{digest[:80]!r} is no sha256 digest")
    return root / "blobs" / "sha256" / digest.partition(":")[2]


def read_blob(root: Path, descriptor: Descriptor) -> bytes:
    """A blob's bytes, these very bytes checked. Raises: DigestMismatch, BundleTooLarge, BundleError."""
    with _readable(descriptor.digest):
        data = durable.read(blob_path(root, descriptor.digest), descriptor.size + 1)
    durable.check_bytes(data, descriptor.digest, descriptor.size)
    return data


def check_blob(root: Path, descriptor: Descriptor) -> None:
    """The same without keeping the bytes. Raises: DigestMismatch, BundleTooLarge, BundleError."""
    with _readable(descriptor.digest):
        durable.check_file(blob_path(root, descriptor.digest), descriptor.digest, descriptor.size)


def has_blob(root: Path, descriptor: Descriptor) -> bool:
    """Whether a blob is there with the right bytes."""
    try:
        check_blob(root, descriptor)
    except BundleError:
        return False
    return True


@contextlib.contextmanager
def _readable(digest: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BundleError(f"{digest[:19]}: the blob is missing", "push the bundle again") from error
    except OSError as error:
        raise BundleError(f"{digest[:19]}: the blob cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Image:
    """An OCI image manifest of our artifact type: what its config and its layers are."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def open_image(root: Path, digest: str) -> Image:
    """Raises: BundleError, DigestMismatch."""
    path = blob_path(root, digest)
    if not path.exists():
        raise BundleError(f"{digest[:19]}: no such bundle in {root}")
    return parse_image(read_blob(root, Descriptor(IMAGE_TYPE, digest, min(path.stat().st_size, SMALL))), digest)


def parse_image(data: bytes, digest: str) -> Image:
    """An image from its bytes, which must be those of the digest. Raises: BundleError, DigestMismatch."""
    durable.check_bytes(data, digest, len(data))
    image = _json(data)
    try:
        if image["artifactType"] != ARTIFACT_TYPE:
            raise BundleError(f"an OCI image of type {image['artifactType']!r} is no edgekit bundle")
        layers = tuple(Descriptor.of(fields.table(layer), LARGE) for layer in fields.items(image["layers"]))
        return Image(Descriptor.of(fields.table(image["config"]), SMALL), layers)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{digest[:19]}: not an edgekit bundle: {error}") from error


def open_bundle(root: Path, digest: str) -> Bundle:
    """The bundle of an image digest. Raises: BundleError, DigestMismatch."""
    image = open_image(root, digest)
    return Bundle(root, digest, manifest.parse(read_blob(root, image.config)), image.config, image.layers)


def open_layout(root: Path) -> tuple[Bundle, str]:
    """The bundle in an OCI layout, and its armoured signature ("" when it has none).

    Raises: BundleError, DigestMismatch.
    """
    entries = _index(root)
    bundles = [entry.get("digest") for entry in entries if entry.get("artifactType") == ARTIFACT_TYPE]
    if len(bundles) != 1:
        raise BundleError(f"{root}: {len(bundles)} bundles in its index.json where one is expected")
    return open_bundle(root, str(bundles[0])), _signature(root, entries)


def _index(root: Path) -> list[dict[str, Any]]:
    path = root / "index.json"
    try:
        if path.stat().st_size > SMALL:
            raise BundleError(f"{path}: too large")
        return [fields.table(entry) for entry in fields.items(_json(path.read_bytes())["manifests"])]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{root}: not a bundle (no index.json)", "'edgekit build' makes one") from error
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not an OCI index") from error


def _signature(root: Path, entries: list[dict[str, Any]]) -> str:
    for entry in entries:
        if entry.get("artifactType") == SIGNATURE_TYPE:
            try:
                image = _json(read_blob(root, Descriptor.of(entry, SMALL)))
                layer = Descriptor.of(fields.items(image["layers"])[0], SMALL)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise BundleError(f"{root}: its signature cannot be read: {error}") from error
            return read_blob(root, layer).decode("ascii", errors="replace")
    return ""


def _json(data: bytes) -> dict[str, Any]:
    try:
        return fields.load(data)
    except ValueError as error:
        raise BundleError(f"not JSON: {error}") from error
