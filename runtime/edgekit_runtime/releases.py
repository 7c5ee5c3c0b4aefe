"""Releases: bundles installed on this device, and the two pointers ``current`` and ``previous``.

A release is a folder of links into the blobs, named by the bundle's digest, with a ``state.json``:
installed → proven → trial → good, or bad (``states``). ``current`` moves by one rename (``switches``), so that it
always names a whole release.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime import admission, durable, incoming, states, trust, verify
from edgekit_runtime import bundle as bundles
from edgekit_runtime.bundle import SMALL, Bundle, Descriptor
from edgekit_runtime.errors import DeviceError, NotInstalled
from edgekit_runtime.home import NAME, app_folder, locked
from edgekit_runtime.states import State

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "signature"


@dataclass(frozen=True)
class Release:
    """A bundle on this device."""

    folder: Path
    bundle: Bundle
    state: State

    @property
    def digest(self) -> str:
        return self.bundle.digest


class NoRoom(DeviceError):
    """The disk is too full for a bundle."""


def missing(home: Path, blobs: list[Descriptor]) -> tuple[Path, list[Descriptor]]:
    """A place to send to, and which to send: this device does not have them, or has them damaged.

    Raises: NoRoom when they do not fit on the disk; DeviceError.
    """
    place = incoming.make(home)
    lacking = [blob for blob in blobs if not (bundles.has_blob(home, blob) or incoming.take_over(place, blob))]
    begun = sum(incoming.take_up(place, blob) for blob in lacking)
    incoming.clear(home)
    need, free = sum(blob.size for blob in lacking) - begun, shutil.disk_usage(home).free
    if need > free:
        shutil.rmtree(place)
        raise NoRoom(f"the bundle needs {need >> 10} KiB, the disk has {free >> 10} KiB free", "make room on it")
    return place, lacking


def install(
    home: Path, place: Path, digest: str, signature: str, *, signer: str = "", allow_downgrade: bool = False
) -> Release:
    """Take a bundle in from the place it was sent to: the signature, then every digest, then the release folder.

    ``signer``: whose signature it is, where that was verified just before. Raises: BundleError and its kin,
    DeviceError. What was refused is removed.
    """
    bundles.blob_path(home, digest)
    with locked(home, f"the install of {digest[:19]}"):
        try:
            signer = signer or verify.verify(digest, signature, trust.file(home))
            bundle = _take_in(home, place, digest, allow_downgrade)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            incoming.clear(home)
        return _make_release(home, bundle, signature, signer)


def _take_in(home: Path, place: Path, digest: str, allow_downgrade: bool) -> Bundle:
    durable.folder(home / "blobs" / "sha256")
    image = Descriptor(bundles.IMAGE_TYPE, digest, SMALL)
    arrived = incoming.arrived(place, image)
    if arrived.exists():
        _adopt(home, place, replace(image, size=min(arrived.stat().st_size, SMALL)))
    _adopt(home, place, bundles.open_image(home, digest).config)
    bundle = bundles.open_bundle(home, digest)
    admission.let_in(home, bundle, allow_downgrade=allow_downgrade)
    for blob in bundle.layers:
        _adopt(home, place, blob)
    return bundle


def _adopt(home: Path, place: Path, blob: Descriptor) -> None:
    arrived = incoming.arrived(place, blob)
    if arrived.exists():
        durable.adopt(arrived, bundles.blob_path(home, blob.digest), blob.digest, blob.size)
    else:
        bundles.check_blob(home, blob)


def _make_release(home: Path, bundle: Bundle, signature: str, signer: str) -> Release:
    folder = folder_of(home, bundle.manifest.app, bundle.digest)
    durable.folder(folder)
    for name, digest in _names(bundle).items():
        durable.link(bundles.blob_path(home, digest), folder / name)
    durable.write(folder / SIGNATURE, signature.encode())
    state = (
        states.read(folder) if (folder / states.FILE).exists() else State("installed", installed_at=int(time.time()))
    )
    release = Release(folder, bundle, state)
    return release if state.name in ("proven", *states.SERVED) else mark(release, "installed", signer=signer)


def folder_of(home: Path, app: str, digest: str) -> Path:
    """Where a release lies, or would."""
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
    return replace(release, state=states.write(release.folder, release.state, name, **changes))


def judged(home: Path, release: Release, name: str, **changes: Any) -> Release:
    """What a proof found, written down on the release as it is by now; one that is proven and serves stays what it is.

    Another push of the same bundle may have been at work meanwhile. A bad one is no way back any more.
    Raises: NotInstalled, BundleError, DeviceError.
    """
    app, digest = release.bundle.manifest.app, release.digest
    with locked(home, f"the proof of {digest[:19]}"):
        now = find(home, app, digest)
        if name == "bad" and pointed(home, app, "previous") == digest:
            durable.remove(app_folder(home, app) / "previous")
        stays = name == "proven" and now.state.name in states.SERVED
        return mark(now, now.state.name if stays else name, **changes)


def find(home: Path, app: str, digest: str) -> Release:
    """Raises: NotInstalled, BundleError, DigestMismatch."""
    folder = folder_of(home, app, digest)
    if not folder.is_dir():
        raise NotInstalled(f"{app}: release {digest[:19]} is not on this device", "push it")
    return Release(folder, bundles.open_bundle(home, digest), states.read(folder))


def signature(release: Release) -> str:
    """As it came; "" for none."""
    try:
        return (release.folder / SIGNATURE).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


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
