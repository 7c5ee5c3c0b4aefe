"""Push: a bundle to one device, which verifies, proves and only then switches; the old release serves until then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgekit import device as devices
from edgekit import hooks as hooking
from edgekit import sending
from edgekit import target as targets
from edgekit.compat import fingerprint, preflight
from edgekit.compat.fingerprint import Fingerprint
from edgekit.errors import (
    BundleError,
    BundleTooLarge,
    DigestMismatch,
    IncompatibleTarget,
    UnsupportedFormat,
)
from edgekit.fleet import Device
from edgekit.model import Format
from edgekit.transports import Transport
from edgekit_runtime import admission
from edgekit_runtime.bundle import IMAGE_TYPE, MODEL_TYPE, Bundle, Descriptor, blob_path, open_layout
from edgekit_runtime.states import SERVED

_READING = threading.Lock()
_read = lru_cache(maxsize=16)(fingerprint.read)


@dataclass(frozen=True)
class Pushed:
    """What a push did: sizes in bytes, ``proof`` as the device gave it; ``notes`` are for people.

    ``state`` is that of the release: ``trial`` until it has served for a while, then ``good``.
    """

    device: str
    release: str
    previous: str | None
    bytes_sent: int
    bytes_total: int
    seconds: float
    proof: dict[str, Any]
    state: str = "good"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parcel:
    """A bundle on this host, and its signature."""

    bundle: Bundle
    signature: str

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        image = blob_path(self.bundle.root, self.bundle.digest)
        own = Descriptor(IMAGE_TYPE, self.bundle.digest, image.stat().st_size)
        return (own, self.bundle.config, *self.bundle.layers)


def open_parcel(folder: Path) -> Parcel:
    """The bundle in a folder, every blob of it checked. Raises: BundleError, DigestMismatch."""
    with _about(folder):
        parcel = Parcel(*open_layout(folder))
        for blob in parcel.blobs:
            parcel.bundle.read(blob)
    return parcel


@contextmanager
def _about(folder: Path) -> Iterator[None]:
    """An error of a bundle on this host names its folder."""
    try:
        yield
    except BundleError as error:
        if not error.message.startswith(str(folder)):
            error.message = f"{folder}: {error.message}"
        if isinstance(error, (DigestMismatch, BundleTooLarge)):
            error.hint = "this copy of it is damaged: build it again"
        raise


def check_target(parcel: Parcel, device: Device) -> None:
    """Raises: IncompatibleTarget when the bundle was built for something else than the device is."""
    wanted, built = targets.load(device.target).name, parcel.bundle.manifest.target
    if wanted != built:
        raise IncompatibleTarget(
            f"{device.name}: the bundle is for {built}, the device is {wanted}", f"edgekit build --target {wanted}"
        )


def push(
    parcel: Parcel,
    device: Device,
    transport: Transport,
    tell: Callable[[str], None],
    *,
    allow_downgrade: bool = False,
    hooks: Path = hooking.FOLDER,
) -> Pushed:
    """Send what is missing, install, prove, and switch; whether it stays live the device decides as it serves.

    ``hooks``: the folder of the project's hooks. Raises: IncompatibleTarget, BundleError and its kin, ProofFailed,
    EngineError, DeviceError, TransportError, HookError.
    """
    started, app, digest = time.monotonic(), parcel.bundle.manifest.app, parcel.bundle.digest
    check_target(parcel, device)
    with devices.conversing(transport, "push", app) as there:
        found = there.hear()
        before = _live(found["app"])
        place, was = str(parcel.bundle.root.absolute()), before["digest"] if before else ""
        with hooking.around(hooking.Event(device.name, device.uri, app, digest, was, place), hooks, tell):
            if before and was == digest and before["state"]["name"] in SERVED:
                sent, now = 0, before
            else:
                _check_age(parcel, before, allow_downgrade)
                _preflight(parcel, device, tell, found["facts"])
                delivered = sending.send(_load(parcel, allow_downgrade), there, tell)
                sent, now = delivered.size, delivered.release
    total = sum(blob.size for blob in parcel.blobs)
    seconds, state, previous = round(time.monotonic() - started, 3), now["state"], was if was != digest else ""
    return Pushed(
        device.name, digest, previous or None, sent, total, seconds, state["proof"], state["name"], _notes(now)
    )


def _load(parcel: Parcel, allow_downgrade: bool) -> sending.Load:
    order = {"digest": parcel.bundle.digest, "signature": parcel.signature, "allow_downgrade": allow_downgrade}
    return sending.Load(parcel.bundle.root, parcel.blobs, {**order, "live": True})


def rollback(
    app: str,
    device: Device,
    transport: Transport,
    tell: Callable[[str], None],
    *,
    words: Sequence[str] = (),
    hooks: Path = hooking.FOLDER,
) -> dict[str, Any]:
    """The release that a device serves once it has gone back. Raises: NotInstalled, DeviceError, BundleError.

    ``words``: further ones for the device's command, such as a rule's reason.
    """
    current = devices.app(transport, app).get("current")
    left = current["digest"] if current else ""
    release = devices.call(transport, "rollback", app, *words)
    event = hooking.Event(device.name, device.uri, app, release["digest"], left, outcome="live")
    hooking.inform("on-rollback", event, hooks, tell)
    return release


def _notes(release: dict[str, Any]) -> tuple[str, ...]:
    """What an operator should know of a release that is live."""
    trial, less = release.get("trial"), release.get("degraded")
    tried = (f"on trial until {trial['until']}", trial["reason"]) if trial else ()
    return tuple(note for note in (*tried, f"degraded: {less}" if less else "") if note)


def _check_age(parcel: Parcel, live: dict[str, Any] | None, allow_downgrade: bool) -> None:
    """What the device would say in the end; it has the last word, by its own clock. Raises: Expired, Downgrade."""
    manifest, highest = parcel.bundle.manifest, live["highest"] if live else 0
    facts = admission.Facts(manifest.arch, int(time.time()), highest)
    admission.admit(manifest, facts, allow_downgrade=allow_downgrade)


def _preflight(parcel: Parcel, device: Device, tell: Callable[[str], None], facts: dict[str, Any]) -> None:
    """Before a byte is sent; the proof decides the rest. Raises: EngineNotInstalled, IncompatibleTarget."""
    manifest = parcel.bundle.manifest
    preflight.check_engines(device.name, manifest.engines, facts)
    preflight.check_ends(device.name, manifest.interface, facts)
    try:
        found = _fingerprint(parcel)
    except UnsupportedFormat as error:
        tell(f"the proof will tell whether it loads: {error.message}")
        return
    verdict = preflight.check(device.name, found, manifest.engines, facts)
    if verdict.answer == "unknown":
        tell(f"the proof will tell whether it loads: {verdict.reason}")
    if tight := preflight.tight(found, facts):
        tell(tight)


def _fingerprint(parcel: Parcel) -> Fingerprint:
    """Read once for all devices that are pushed to at a time: it takes several times the model's size in memory."""
    model = blob_path(parcel.bundle.root, parcel.bundle.layer(MODEL_TYPE).digest)
    with _READING:
        return _read(model, Format(parcel.bundle.manifest.format))


def _live(app: dict[str, Any] | None) -> dict[str, Any] | None:
    """The release of an app that serves now, of what a device says of it; None for none, or one that is damaged."""
    current = app["current"] if app else None
    return {**current, "highest": app["highest"]} if app and current and "error" not in current else None


def find_bundle(folder: Path, target: str) -> Path:
    """The one bundle for a target among those under a folder. Raises: BundleError."""
    known: dict[str, list[Path]] = {}
    for index in sorted(folder.glob("[!.]*/index.json")):  # one that is being written has a name with a dot
        with _about(index.parent):
            known.setdefault(open_layout(index.parent)[0].manifest.target, []).append(index.parent)
    if target not in known:
        built = ", ".join(sorted(known)) or "nothing"
        raise BundleError(f"{folder}: no bundle for {target} (built is {built})", f"edgekit build --target {target}")
    if len(known[target]) > 1:
        places = ", ".join(map(str, known[target]))
        raise BundleError(f"{folder}: several bundles for {target}", f"name one of {places}")
    return known[target][0]
