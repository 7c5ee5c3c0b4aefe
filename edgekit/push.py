"""Push: a bundle to one device, which verifies, proves and only then switches; the old release serves until then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import device as devices
from edgekit import target as targets
from edgekit.compat import fingerprint, preflight
from edgekit.errors import (
    BundleError,
    DeviceError,
    DigestMismatch,
    EngineNotInstalled,
    IncompatibleTarget,
    TransportError,
    UnsupportedFormat,
)
from edgekit.fleet import Device
from edgekit.model import Format
from edgekit.transports import Transport
from edgekit_runtime.bundle import IMAGE_TYPE, MODEL_TYPE, Bundle, Descriptor, blob_path, open_layout

CLEAN_UP_S = 15.0


@dataclass(frozen=True)
class Pushed:
    """What a push did: sizes in bytes, ``proof`` as the device gave it."""

    device: str
    release: str
    previous: str | None
    bytes_sent: int
    bytes_total: int
    seconds: float
    proof: dict[str, Any]


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
        if isinstance(error, DigestMismatch):
            error.hint = "this copy of it is damaged: build it again"
        raise


def check_target(parcel: Parcel, device: Device) -> None:
    """Raises: IncompatibleTarget when the bundle was built for something else than the device is."""
    wanted, built = targets.load(device.target).name, parcel.bundle.manifest.target
    if wanted != built:
        raise IncompatibleTarget(
            f"{device.name}: the bundle is for {built}, the device is {wanted}", f"edgekit build --target {wanted}"
        )


def push(parcel: Parcel, device: Device, transport: Transport, tell: Callable[[str], None]) -> Pushed:
    """Send what is missing, install, prove, switch, confirm.

    Raises: IncompatibleTarget, BundleError and its kin, ProofFailed, EngineError, DeviceError, TransportError.
    """
    started, app, digest = time.monotonic(), parcel.bundle.manifest.app, parcel.bundle.digest
    check_target(parcel, device)
    before = _live(transport, app)
    sent = 0
    if not before or before["digest"] != digest or before["state"]["name"] != "good":
        _preflight(parcel, device, transport, tell)
        sent, place = _send(parcel, transport, tell)
        arrived = {"digest": digest, "signature": parcel.signature, "incoming": place}
        devices.call(transport, "install", stdin=arrived)
        tell("proving on the device")
        _prove(parcel, device, transport)
        devices.call(transport, "activate", app, digest)
    now = _live(transport, app)
    if not now or now["digest"] != digest:
        other = now["digest"][:19] if now else "nothing"
        switched = f"{app}: {other} is live, not {digest[:19]}: another push or rollback came after it"
        raise DeviceError(switched, "look at 'edgekit status'")
    previous = before["digest"] if before and before["digest"] != digest else None
    total = sum(blob.size for blob in parcel.blobs)
    return Pushed(
        device.name, digest, previous, sent, total, round(time.monotonic() - started, 3), now["state"]["proof"]
    )


def _preflight(parcel: Parcel, device: Device, transport: Transport, tell: Callable[[str], None]) -> None:
    """Before a byte is sent; the proof decides what is not known here. Raises: IncompatibleTarget."""
    manifest = parcel.bundle.manifest
    model = blob_path(parcel.bundle.root, parcel.bundle.layer(MODEL_TYPE).digest)
    try:
        found = fingerprint.read(model, Format(manifest.format))
    except UnsupportedFormat as error:
        tell(f"the proof will tell whether it loads: {error.message}")
        return
    verdict = preflight.check(device.name, found, manifest.engines, devices.probe(transport))
    if verdict.answer == "unknown":
        tell(f"the proof will tell whether it loads: {verdict.reason}")


def _live(transport: Transport, app: str) -> dict[str, Any] | None:
    """The release of an app that serves now; None for none, or one that is damaged."""
    found = [each["current"] for each in devices.call(transport, "status")["apps"] if each["app"] == app]
    return found[0] if found and found[0] and "error" not in found[0] else None


def _send(parcel: Parcel, transport: Transport, tell: Callable[[str], None]) -> tuple[int, str]:
    """The bytes that went over, and the device's folder they went to.

    What could not be sent whole is taken away again: a full disk must not stay so. After a cut nothing can be taken
    away; the next push keeps what had arrived whole.
    """
    answer = devices.call(transport, "missing", stdin={"blobs": [blob.as_dict() for blob in parcel.blobs]})
    lacking, place = [blob for blob in parcel.blobs if blob.digest in answer["missing"]], answer["incoming"]
    try:
        for blob in lacking:
            what = "image" if blob.media_type == IMAGE_TYPE else blob.media_type.split(".")[2]
            tell(f"sending {what}, {blob.size} bytes")
            transport.put(blob_path(parcel.bundle.root, blob.digest), f"{place}/{blob.digest.partition(':')[2]}")
    except TransportError:
        with suppress(TransportError):
            transport.run(["rm", "-rf", place], timeout_s=CLEAN_UP_S)
        raise
    return sum(blob.size for blob in lacking), place


def _prove(parcel: Parcel, device: Device, transport: Transport) -> None:
    manifest = parcel.bundle.manifest
    try:
        devices.call(transport, "prove", manifest.app, parcel.bundle.digest)
    except EngineNotInstalled as error:
        hint = f"edgekit device setup {device.name} --engine {manifest.engines[0].name}"
        raise EngineNotInstalled(error.message, hint) from error


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
