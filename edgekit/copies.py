"""Copies: large blobs that this host has sent lately. A device that still has one needs only the difference to it.

They lie in the user's cache, as second names of the bundle's own files where that is possible, and may be removed at
any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit import user_cache
from edgekit.delta import Bytes
from edgekit_runtime import similar
from edgekit_runtime.similar import LEAST, PREFIX

KIND = "sent"
MOST, MOST_BYTES = 16, 1 << 30
_READING = threading.Lock()


def known() -> list[str]:
    """How the digests of the copies begin."""
    with suppress(OSError):
        return [path.name[:PREFIX] for path in user_cache.path(KIND).glob("[!.]*")]
    return []


@dataclass(frozen=True)
class Copy:
    """A copy's bytes, and the sums of its blocks (``similar.signature``)."""

    data: Bytes
    sums: bytes


def opened(digest: str) -> Copy | None:
    """The copy that has a digest; None when there is none, or it is damaged."""
    path = user_cache.path(KIND) / digest.partition(":")[2]
    try:
        facts = path.stat()
        with _READING:  # once for all devices that build upon it
            return _read(path, digest, (facts.st_ino, facts.st_mtime_ns, facts.st_size))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=4)
def _read(path: Path, digest: str, facts: tuple[int, ...]) -> Copy | None:
    data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    if f"sha256:{hashlib.sha256(data.data).hexdigest()}" != digest:
        return None
    return Copy(data, similar.signature(io.BytesIO(data.data), similar.block_of(len(data))))


def remember(blobs: Iterable[Path]) -> None:
    """Keep these files of a bundle, named by their digests, and not too many others; or not, where that fails."""
    folder = user_cache.path(KIND)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for blob in blobs:
            if blob.stat().st_size >= LEAST:
                _copy(blob, folder / blob.name)
        _limit(folder)


def _copy(blob: Path, copy: Path) -> None:
    beside = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}")
    try:
        try:
            os.link(blob, beside)  # which also says when it was used last, in its ctime
        except OSError:
            shutil.copyfile(blob, beside)
        beside.replace(copy)
    finally:
        beside.unlink(missing_ok=True)


def _limit(folder: Path) -> None:
    facts = [(path.stat(), path) for path in folder.iterdir()]
    size = 0
    for number, (fact, path) in enumerate(sorted(facts, key=lambda each: each[0].st_ctime_ns, reverse=True)):
        size += fact.st_size
        if number >= MOST or size > MOST_BYTES:
            path.unlink(missing_ok=True)
