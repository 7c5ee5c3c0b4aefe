"""Writing a bundle: an OCI image layout 1.1 in a folder, its signature as a referrer beside it.

The same manifest and layers give the same bytes under ``blobs/``. The folder is the old bundle or the new one, whatever
is cut, killed or full.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError
from edgekit.signing import Signer
from edgekit_runtime import durable
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
from edgekit_watch import calibration
from edgekit_watch.shadow import TWIN_TYPE

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
SIGNATURE_LAYER_TYPE = "application/vnd.openssh.signature"
LAYOUT = "oci-layout"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle: the manifest, the model's bytes and the golden vectors' (.npz).

    ``calibration``: the profile to watch quality by, in JSON, or none. ``twin``: the float model to do so, in the same
    format, and its interface, in JSON.
    """

    manifest: Manifest
    model: bytes
    golden: bytes
    calibration: bytes = b""
    twin: tuple[bytes, bytes] | None = None


def write(contents: Contents, destination: Path, signer: Signer) -> Bundle:
    """The signed bundle, now in ``destination``; an older bundle there is replaced.

    Raises: BundleError when something else stands there or it cannot be written, ConfigError and EdgekitError when it
    cannot be signed. The older bundle is then as it was.
    """
    check_place(destination)
    blobs = dict[str, bytes]()
    index = _index(contents, signer, blobs)
    try:
        _store(destination, blobs, index)
    except OSError as error:
        raise BundleError(
            f"{destination}: cannot be written: {error.strerror}", "free or choose another place with --output"
        ) from error
    return open_layout(destination)[0]


def digest(contents: Contents) -> str:
    """Of the bundle that ``write`` would make: the name of its release on a device."""
    return _image(contents, {}).digest


def check_place(destination: Path) -> None:
    """Raises: BundleError when something stands there that is neither an older bundle nor an empty folder."""
    if not destination.exists():
        return
    begun = {f".{LAYOUT}.tmp"}  # all that there is of one that was cut off at its first file
    if not destination.is_dir() or not ({path.name for path in destination.iterdir()} <= begun or _ours(destination)):
        raise BundleError(f"{destination}: not empty and not a bundle", "choose another place with --output")


def _ours(folder: Path) -> bool:
    """Whether all that its index names is edgekit's. One that was never finished has no index."""
    try:
        index = json.loads((folder / "index.json").read_bytes())
        types = [str(entry.get("artifactType")) for entry in index["manifests"]]
    except FileNotFoundError:
        types = []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return (folder / LAYOUT).is_file() and all(each in (ARTIFACT_TYPE, SIGNATURE_TYPE) for each in types)


def _store(destination: Path, blobs: dict[str, bytes], index: bytes) -> None:
    """The index comes last, by rename: until then the folder is the old bundle, from then on the new one."""
    folder, existed = destination / "blobs" / "sha256", destination.exists()
    old = {path.name for path in folder.iterdir()} if folder.exists() else set()
    try:
        durable.folder(destination)
        durable.write(destination / LAYOUT, canonical({"imageLayoutVersion": "1.0.0"}))
        durable.folder(folder)
        for name, data in blobs.items():
            durable.write(folder / name, data)
        durable.write(destination / "index.json", index)
    except BaseException:
        if not _is(destination / "index.json", index):
            _remove(folder, blobs.keys() - old)
            if not existed:
                shutil.rmtree(destination, ignore_errors=True)
        raise
    _remove(folder, old - blobs.keys())


def _is(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() == data


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _index(contents: Contents, signer: Signer, blobs: dict[str, bytes]) -> bytes:
    image = _image(contents, blobs)
    signature = _signature(image, signer.sign(image.digest), blobs)
    entries = [
        {**image.as_dict(), "artifactType": ARTIFACT_TYPE, "annotations": _annotations(contents.manifest)},
        {**signature.as_dict(), "artifactType": SIGNATURE_TYPE},
    ]
    return canonical({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})


def _image(contents: Contents, blobs: dict[str, bytes]) -> Descriptor:
    config = _put(blobs, CONFIG_TYPE, manifests.dump(contents.manifest))
    model = _put(blobs, f"{MODEL_TYPE}+{contents.manifest.format}", contents.model)
    golden = _put(blobs, GOLDEN_TYPE, contents.golden)
    layers = [model, golden, *_for_quality(contents, blobs)]
    return _put(blobs, IMAGE_TYPE, _manifest(ARTIFACT_TYPE, config, layers))


def _for_quality(contents: Contents, blobs: dict[str, bytes]) -> Iterator[Descriptor]:
    if contents.calibration:
        yield _put(blobs, calibration.MEDIA_TYPE, contents.calibration)
    if contents.twin:
        model, interface = contents.twin
        yield _put(blobs, f"{TWIN_TYPE}+json", interface)
        yield _put(blobs, f"{TWIN_TYPE}+{contents.manifest.format}", model)


def _signature(image: Descriptor, signature: str, blobs: dict[str, bytes]) -> Descriptor:
    empty = _put(blobs, EMPTY_TYPE, b"{}")
    layer = _put(blobs, SIGNATURE_LAYER_TYPE, signature.encode())
    return _put(blobs, IMAGE_TYPE, _manifest(SIGNATURE_TYPE, empty, [layer], subject=image.as_dict()))


def _manifest(artifact_type: str, config: Descriptor, layers: list[Descriptor], **more: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": IMAGE_TYPE, "artifactType": artifact_type, **more}
    return canonical({**document, "config": config.as_dict(), "layers": [layer.as_dict() for layer in layers]})


def _put(blobs: dict[str, bytes], media_type: str, data: bytes) -> Descriptor:
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return Descriptor(media_type, f"sha256:{digest}", len(data))


def _annotations(manifest: Manifest) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": manifest.app,
        "org.opencontainers.image.version": manifest.version,
        "dev.edgekit.target": manifest.target,
    }
