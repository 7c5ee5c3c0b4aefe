"""Writing a bundle: an OCI image layout 1.1 in a folder, its signature as a referrer beside it.

The same manifest and layers give the same bytes under ``blobs/``. The folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError
from edgekit.signing import Signer
from edgekit_runtime import manifest as manifests
from edgekit_runtime.bundle import (
    ARTIFACT_TYPE,
    CONFIG_TYPE,
    GOLDEN_TYPE,
    IMAGE_TYPE,
    MODEL_TYPE,
    SIGNATURE_TYPE,
    Bundle,
    Descriptor,
    open_layout,
)
from edgekit_runtime.manifest import Manifest, canonical

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
SIGNATURE_LAYER_TYPE = "application/vnd.openssh.signature"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle: the manifest, the model's bytes and the golden vectors' (.npz)."""

    manifest: Manifest
    model: bytes
    golden: bytes


def write(contents: Contents, destination: Path, signer: Signer) -> Bundle:
    """The signed bundle, now in ``destination``; an older bundle there is replaced.

    Raises: BundleError when something else stands there, ConfigError, EdgekitError when it cannot be signed.
    """
    if destination.exists() and not (destination / "oci-layout").is_file() and any(destination.iterdir()):
        raise BundleError(f"{destination}: not empty and not a bundle", "choose another --output")
    destination.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        fresh.chmod(0o755)
        _fill(fresh, contents, signer)
        _replace(fresh, destination)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return open_layout(destination)[0]


def _replace(fresh: Path, destination: Path) -> None:
    old = fresh.with_name(f"{fresh.name}.old")
    if destination.exists():
        destination.rename(old)
    fresh.rename(destination)
    shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, contents: Contents, signer: Signer) -> None:
    (folder / "blobs" / "sha256").mkdir(parents=True)
    image = _put_image(folder, contents)
    signature = _put_signature(folder, image, signer.sign(image.digest))
    entries = [
        {**image.as_dict(), "artifactType": ARTIFACT_TYPE, "annotations": _annotations(contents.manifest)},
        {**signature.as_dict(), "artifactType": SIGNATURE_TYPE},
    ]
    (folder / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))


def _put_image(folder: Path, contents: Contents) -> Descriptor:
    config = _put(folder, CONFIG_TYPE, manifests.dump(contents.manifest))
    model = _put(folder, f"{MODEL_TYPE}+{contents.manifest.format}", contents.model)
    golden = _put(folder, GOLDEN_TYPE, contents.golden)
    return _put(folder, IMAGE_TYPE, _image(ARTIFACT_TYPE, config, [model, golden]))


def _put_signature(folder: Path, image: Descriptor, signature: str) -> Descriptor:
    empty = _put(folder, EMPTY_TYPE, b"{}")
    layer = _put(folder, SIGNATURE_LAYER_TYPE, signature.encode())
    return _put(folder, IMAGE_TYPE, _image(SIGNATURE_TYPE, empty, [layer], subject=image.as_dict()))


def _image(artifact_type: str, config: Descriptor, layers: list[Descriptor], **more: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": IMAGE_TYPE, "artifactType": artifact_type, **more}
    return canonical({**document, "config": config.as_dict(), "layers": [layer.as_dict() for layer in layers]})


def _put(folder: Path, media_type: str, data: bytes) -> Descriptor:
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(data)
    return Descriptor(media_type, f"sha256:{digest}", len(data))


def _annotations(manifest: Manifest) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": manifest.app,
        "org.opencontainers.image.version": manifest.version,
        "dev.edgekit.target": manifest.target,
    }
