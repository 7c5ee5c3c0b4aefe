"""Reading a bundle: an OCI image layout 1.1 on the host, or the blobs of a device; every byte by its digest.

Nothing is parsed before its digest has been checked, but ``index.json``, which only names the digest to begin with.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit_runtime import durable, manifest
from edgekit_runtime.errors import BundleError
from edgekit_runtime.manifest import Manifest

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
        digest, size = document["digest"], document["size"]
        if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or not 0 <= size <= limit:
            raise ValueError(f"descriptor {str(digest)[:80]} of {size} bytes")
        return Descriptor(document["mediaType"], digest, size)

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


def blob_path(root: Path, digest: str) -> Path:
    """Where a digest's blob lies under a layout or a home. Raises: BundleError for what is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise BundleError(f"{digest[:80]!r} is no sha256 digest")
    return root / "blobs" / "sha256" / digest.partition(":")[2]


def read_blob(root: Path, descriptor: Descriptor) -> bytes:
    """A blob's bytes, these very bytes checked. Raises: DigestMismatch, BundleTooLarge, BundleError."""
    try:
        with blob_path(root, descriptor.digest).open("rb") as file:
            data = file.read(descriptor.size + 1)
    except FileNotFoundError as error:
        raise BundleError(f"{descriptor.digest[:19]}: the blob is missing", "push the bundle again") from error
    durable.check_bytes(data, descriptor.digest, descriptor.size)
    return data


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
    image = _json(read_blob(root, Descriptor(IMAGE_TYPE, digest, min(path.stat().st_size, SMALL))))
    try:
        if image["artifactType"] != ARTIFACT_TYPE:
            raise BundleError(f"an OCI image of type {image['artifactType']!r} is no edgekit bundle")
        return Image(
            Descriptor.of(image["config"], SMALL), tuple(Descriptor.of(layer, LARGE) for layer in image["layers"])
        )
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
    bundles = [entry["digest"] for entry in entries if entry.get("artifactType") == ARTIFACT_TYPE]
    if len(bundles) != 1:
        raise BundleError(f"{root}: {len(bundles)} bundles in its index.json where one is expected")
    return open_bundle(root, bundles[0]), _signature(root, entries)


def _index(root: Path) -> list[dict[str, Any]]:
    path = root / "index.json"
    try:
        if path.stat().st_size > SMALL:
            raise BundleError(f"{path}: too large")
        entries: list[dict[str, Any]] = _json(path.read_bytes())["manifests"]
        return [dict(entry) for entry in entries]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{root}: not a bundle (no index.json)", "'edgekit build' makes one") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not an OCI index") from error


def _signature(root: Path, entries: list[dict[str, Any]]) -> str:
    for entry in entries:
        if entry.get("artifactType") == SIGNATURE_TYPE:
            image = _json(read_blob(root, Descriptor.of(entry, SMALL)))
            return read_blob(root, Descriptor.of(image["layers"][0], SMALL)).decode("ascii", errors="replace")
    return ""


def _json(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BundleError("not a JSON object")
    return document
