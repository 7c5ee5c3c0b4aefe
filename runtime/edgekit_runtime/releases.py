"""Releases: bundles installed on this device, and the two pointers ``current`` and ``previous``.

A release is a folder of links into the blobs, named by the bundle's digest, with a ``state.json``:
installed → proven → good, or bad. ``current`` moves by one rename, so that it always names a whole release.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime import bundle as bundles
from edgekit_runtime import durable, fields, incoming, verify
from edgekit_runtime.bundle import SMALL, Bundle, Descriptor
from edgekit_runtime.errors import BundleError, DeviceError, NotInstalled
from edgekit_runtime.home import NAME, app_folder, locked

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "signature"


@dataclass(frozen=True)
class State:
    """What became of a release; ``proof`` is what its golden vectors gave on this device."""

    name: str
    reason: str = ""
    installed_at: int = 0
    signer: str = ""
    proof: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """A bundle on this device."""

    folder: Path
    bundle: Bundle
    state: State

    @property
    def digest(self) -> str:
        return self.bundle.digest


def missing(home: Path, blobs: list[Descriptor]) -> tuple[Path, list[Descriptor]]:
    """A place to send to, and which to send: this device does not have them, or has them damaged.

    Raises: DeviceError when they do not fit on the disk.
    """
    place = incoming.make(home)
    lacking = [blob for blob in blobs if not (_has(home, blob) or incoming.take_over(place, blob))]
    incoming.clear(home)
    need, free = sum(blob.size for blob in lacking), shutil.disk_usage(home).free
    if need > free:
        shutil.rmtree(place)
        raise DeviceError(f"the bundle needs {need >> 10} KiB, the disk has {free >> 10} KiB free", "make room on it")
    return place, lacking


def _has(home: Path, blob: Descriptor) -> bool:
    try:
        bundles.check_blob(home, blob)
    except BundleError:
        return False
    return True


def install(home: Path, place: Path, digest: str, signature: str) -> Release:
    """Take a bundle in from the place it was sent to: the signature, then every digest, then the release folder.

    Raises: SignatureError, DigestMismatch, BundleTooLarge, BundleError, DeviceError. What was refused is removed.
    """
    bundles.blob_path(home, digest)
    with locked(home, f"the install of {digest[:19]}"):
        try:
            signer = verify.verify(digest, signature, home / "trust" / "allowed_signers")
            bundle = _take_in(home, place, digest)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            incoming.clear(home)
        return _make_release(home, bundle, signature, signer)


def _take_in(home: Path, place: Path, digest: str) -> Bundle:
    durable.folder(home / "blobs" / "sha256")
    image = Descriptor(bundles.IMAGE_TYPE, digest, SMALL)
    arrived = incoming.arrived(place, image)
    if arrived.exists():
        _adopt(home, place, replace(image, size=min(arrived.stat().st_size, SMALL)))
    opened = bundles.open_image(home, digest)
    for blob in (opened.config, *opened.layers):
        _adopt(home, place, blob)
    return bundles.open_bundle(home, digest)


def _adopt(home: Path, place: Path, blob: Descriptor) -> None:
    arrived = incoming.arrived(place, blob)
    if arrived.exists():
        durable.adopt(arrived, bundles.blob_path(home, blob.digest), blob.digest, blob.size)
    else:
        bundles.check_blob(home, blob)


def _make_release(home: Path, bundle: Bundle, signature: str, signer: str) -> Release:
    folder = _folder(home, bundle.manifest.app, bundle.digest)
    durable.folder(folder)
    for name, digest in _names(bundle).items():
        durable.link(bundles.blob_path(home, digest), folder / name)
    durable.write(folder / SIGNATURE, signature.encode())
    state = (
        _read_state(folder) if (folder / "state.json").exists() else State("installed", installed_at=int(time.time()))
    )
    release = Release(folder, bundle, state)
    return release if state.name in ("proven", "good") else mark(release, "installed", signer=signer)


def _folder(home: Path, app: str, digest: str) -> Path:
    return app_folder(home, app) / "releases" / digest.partition(":")[2]


def _names(bundle: Bundle) -> dict[str, str]:
    return {
        "image.json": bundle.digest,
        "manifest.json": bundle.config.digest,
        f"model.{bundle.manifest.format}": bundle.layer(bundles.MODEL_TYPE).digest,
        "golden.npz": bundle.layer(bundles.GOLDEN_TYPE).digest,
    }


def mark(release: Release, name: str, **changes: Any) -> Release:
    """The release in another state, written down."""
    return replace(release, state=_write_state(release.folder, release.state, name, **changes))


def judged(home: Path, release: Release, name: str, **changes: Any) -> Release:
    """What a proof found, written down on the release as it is by now; a proven one that is good stays good.

    Another push of the same bundle may have been at work meanwhile. Raises: NotInstalled, BundleError, DeviceError.
    """
    app, digest = release.bundle.manifest.app, release.digest
    with locked(home, f"the proof of {digest[:19]}"):
        now = find(home, app, digest)
        return mark(now, "good" if (name, now.state.name) == ("proven", "good") else name, **changes)


def _write_state(folder: Path, state: State, name: str, **changes: Any) -> State:
    state = replace(state, **{"reason": "", **changes, "name": name})
    durable.write(folder / "state.json", json.dumps(asdict(state), indent=1, allow_nan=False).encode())
    return state


def _read_state(folder: Path) -> State:
    try:
        document = fields.load((folder / "state.json").read_bytes())
        texts = {key: fields.text(document[key]) for key in ("name", "reason", "signer")}
        return State(**{**document, **texts, "proof": fields.table(document["proof"])})
    except (OSError, KeyError, ValueError, TypeError):
        return State("installed", "its state could not be read")


def find(home: Path, app: str, digest: str) -> Release:
    """Raises: NotInstalled, BundleError, DigestMismatch."""
    folder = _folder(home, app, digest)
    if not folder.is_dir():
        raise NotInstalled(f"{app}: release {digest[:19]} is not on this device", "push it")
    return Release(folder, bundles.open_bundle(home, digest), _read_state(folder))


def pointed(home: Path, app: str, pointer: str) -> str:
    """The digest that ``current`` or ``previous`` names, "" when there is none."""
    try:
        return f"sha256:{os.path.basename(os.readlink(app_folder(home, app) / pointer))}"
    except FileNotFoundError:
        return ""


def current(home: Path, app: str) -> Release:
    """The release that serves. Raises: NotInstalled."""
    digest = pointed(home, app, "current")
    if not digest:
        known = ", ".join(apps(home)) or "none"
        raise NotInstalled(f"no app {app!r} is live on this device", f"live apps: {known}; 'edgekit push' brings one")
    return find(home, app, digest)


def apps(home: Path) -> list[str]:
    """The apps that have a current release, sorted."""
    folders = (home / "apps").glob("*")
    return sorted(path.name for path in folders if NAME.fullmatch(path.name) and (path / "current").is_symlink())


def activate(home: Path, app: str, digest: str) -> Release:
    """Switch ``current`` to a proven release. Raises: NotInstalled, DeviceError, BundleError for damaged blobs."""
    with locked(home, f"the switch to {digest[:19]}"):
        release = find(home, app, digest)
        if release.state.name not in ("proven", "good"):
            raise DeviceError(f"{app}: release {digest[:19]} is {release.state.name}, not proven", "prove it first")
        release.bundle.check()
        before = pointed(home, app, "current")
        if before not in ("", digest):
            _point(home, app, "previous", before)
        _point(home, app, "current", digest)
        return mark(release, "good")


def rollback(home: Path, app: str, reason: str) -> Release:
    """Switch back to ``previous``; the release that is left, however damaged, becomes bad.

    Raises: NotInstalled, DeviceError, BundleError when ``previous`` is damaged.
    """
    with locked(home, f"a rollback of {app}"):
        left = pointed(home, app, "current") or current(home, app).digest
        digest = pointed(home, app, "previous")
        if digest in ("", left):
            raise DeviceError(f"{app}: there is no previous release to go back to", "push the one you want")
        release = find(home, app, digest)
        if release.state.name == "bad":
            raise DeviceError(f"{app}: the previous release is marked bad ({release.state.reason})", "push a good one")
        release.bundle.check()
        folder = _folder(home, app, left)
        with contextlib.suppress(OSError):  # a full disk must not keep it alive
            _write_state(folder, _read_state(folder), "bad", reason=reason)
        _point(home, app, "current", digest)
        return release


def _point(home: Path, app: str, pointer: str, digest: str) -> None:
    durable.point(app_folder(home, app) / pointer, f"releases/{digest.partition(':')[2]}")
