"""Receiving: the blobs of a bundle, built in the place of its push from the frames that come over."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from edgekit_runtime import bundle as bundles
from edgekit_runtime import durable, fields, incoming, patch, trust, verify
from edgekit_runtime.bundle import LARGE, SMALL, Descriptor
from edgekit_runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOLD = 8
"""Bytes of the digest of a chunk by which the host knows it again."""


@dataclass(frozen=True)
class Order:
    """What is to come: of which bundle, its blobs in order, what is kept of each, what they build upon."""

    digest: str
    signature: str
    blobs: tuple[tuple[Descriptor, int], ...]
    bases: tuple[str, ...]

    @staticmethod
    def of(document: dict[str, Any]) -> Order:
        """Raises: KeyError, TypeError, ValueError."""
        tables = [fields.table(each) for each in fields.items(document.get("blobs", []))]
        blobs = tuple((Descriptor.of(each, LARGE), fields.count(each["kept"], most=LARGE)) for each in tables)
        bases = tuple(fields.text(each) for each in fields.items(document.get("bases", [])))
        return Order(fields.text(document["digest"]), fields.text(document["signature"]), blobs, bases)


def receive(home: Path, place: Path, order: Order, stream: BinaryIO) -> str:
    """Write what is lacking, and never more than the signed image says; nothing for a signature that does not hold.

    The name of the signer. Raises: BundleError and its kin, DeviceError, OSError; then what came is removed.
    Raises: Cut; then it is kept.
    """
    keep = False
    try:
        signer = verify.verify(order.digest, order.signature, trust.file(home))
        with contextlib.ExitStack() as held:
            sources = [held.enter_context(bundles.blob_path(home, base).open("rb")) for base in order.bases]
            for blob, kept in order.blobs:
                _check(home, place, order.digest, blob)
                with _opened(incoming.arrived(place, blob), kept) as handle:
                    patch.apply(stream, sources, handle, blob.size - kept)
        keep = True
    except patch.Cut:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    return signer


def _check(home: Path, place: Path, digest: str, blob: Descriptor) -> None:
    """Raises: BundleError for a blob that is not, with this very size, a part of the signed image."""
    if blob.digest == digest:
        if blob.size > SMALL:
            raise BundleError(f"{digest[:19]}: an image of {blob.size} bytes")
        return
    here = incoming.arrived(place, Descriptor(bundles.IMAGE_TYPE, digest, SMALL))
    image = (
        bundles.parse_image(durable.read(here, SMALL), digest) if here.exists() else bundles.open_image(home, digest)
    )
    if (blob.digest, blob.size) not in {(each.digest, each.size) for each in (image.config, *image.layers)}:
        raise BundleError(f"{blob.digest[:19]}: no part of the bundle that was signed")


@contextlib.contextmanager
def _opened(path: Path, kept: int) -> Iterator[int]:
    """A file to add to, cut back to what the host has known again. Raises: BundleError, OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        if os.fstat(handle).st_size < kept:
            raise BundleError(f"{path.name[:12]}: fewer bytes are here than {kept}")
        os.ftruncate(handle, kept)
        os.lseek(handle, kept, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def kept(place: Path, blob: Descriptor) -> dict[str, Any] | None:
    """What is here of a blob that a push before did not bring to its end: its size, and a digest of each chunk."""
    path = incoming.arrived(place, blob)
    if not path.exists():
        return None
    with path.open("rb") as file:
        chunks = iter(lambda: file.read(patch.CHUNK), b"")
        told = "".join(told_of(chunk) for chunk in chunks)
    return {"digest": blob.digest, "size": path.stat().st_size, "chunks": told}


def told_of(chunk: bytes) -> str:
    """How a chunk is known again."""
    return hashlib.blake2b(chunk, digest_size=TOLD).hexdigest()
