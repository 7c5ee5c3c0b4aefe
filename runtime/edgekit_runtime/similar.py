"""Similar: blobs on this device that a push may build upon, told so that the host need not have them.

Of a blob that the host does not have either, it gets two sums of each block, as of rsync (Tridgell and Mackerras,
1996): a weak one that can be rolled over a file byte by byte, and a strong one. The digest of what was built decides.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from edgekit_runtime import bundle as bundles
from edgekit_runtime.bundle import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LEAST = 1 << 15
"""Blobs of fewer bytes come over whole: what is to be told of a similar one is not worth it."""
NEAREST = 8
PREFIX = 16
"""So many hexadecimal digits name a blob between a host and its device."""
SUMS = 8
_PLAIN = re.compile(r"[0-9a-f]{64}")


def bases(home: Path, lacking: Sequence[Descriptor], known: Sequence[str]) -> list[dict[str, Any]]:
    """For each large blob the one of the nearest size, the newest of these, and near ones that the host has.

    ``known`` are beginnings of the digests of what the host has.
    """
    stored = list(_stored(home))
    found: dict[str, dict[str, Any]] = {}
    for blob in lacking:
        if blob.size >= LEAST:
            ranked = sorted(stored, key=lambda each: (_distance(each[0].size, blob.size), -each[1]))
            for rank, (base, _) in enumerate(ranked[:NEAREST]):
                theirs = base.digest.partition(":")[2][:PREFIX] in known
                if (theirs or not rank) and base.digest not in found and bundles.has_blob(home, base):
                    found[base.digest] = {"digest": base.digest, "size": base.size, **_told(home, base, theirs)}
    return list(found.values())


def _stored(home: Path) -> Iterator[tuple[Descriptor, float]]:
    """The blobs that are large enough, and when each came."""
    for path in (home / "blobs" / "sha256").glob("*"):
        facts = path.lstat()
        if _PLAIN.fullmatch(path.name) and facts.st_size >= LEAST:
            yield Descriptor("", f"sha256:{path.name}", facts.st_size), facts.st_mtime


def _distance(one: int, other: int) -> float:
    return max(one, other) / min(one, other)


def _told(home: Path, base: Descriptor, theirs: bool) -> dict[str, Any]:
    if theirs:
        return {}
    block = block_of(base.size)
    with bundles.blob_path(home, base.digest).open("rb") as file:
        return {"block": block, "sums": base64.b85encode(signature(file, block)).decode()}


def block_of(size: int) -> int:
    """Bytes of a block: the larger they are the fewer sums, and the more goes over around what has changed."""
    return max(1 << 11, 1 << (size.bit_length() // 2 + 1))


def signature(file: BinaryIO, block: int) -> bytes:
    """The sums of a file's whole blocks, one after the other."""
    return b"".join(sums(data) for data in iter(lambda: file.read(block), b"") if len(data) == block)


def sums(data: bytes) -> bytes:
    """SUMS bytes: Adler-32 and four of BLAKE2b."""
    return zlib.adler32(data).to_bytes(4, "big") + hashlib.blake2b(data, digest_size=SUMS - 4).digest()
