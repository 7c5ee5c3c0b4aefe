"""Collect: the releases and blobs that this device need not keep any longer.

A release goes in the order that a power cut may end anywhere: its folder gets a name that no release has, which is
synced; its links are removed; last of all, the blobs that no release has. A program that serves a release which goes
has it in memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit_runtime import bundle as bundles
from edgekit_runtime import durable, fields, incoming
from edgekit_runtime.errors import BundleError, DeviceError
from edgekit_runtime.home import NAME, locked

if TYPE_CHECKING:
    from pathlib import Path

KEEP = 3
"""Releases of an app that stay: the current one, the previous one, and the one that was handled last beside them."""
LEAST = 2
UNFINISHED = ("installed", "proven")
AT_WORK_S = 3600.0
PLAIN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Collected:
    """The releases that went, by digest, and the bytes of the blobs that went."""

    releases: tuple[str, ...] = ()
    bytes_freed: int = 0


def collect(home: Path, keep: int = KEEP) -> Collected:
    """Leave ``keep`` releases of each app, with all that pointers name and all that another push is at work on.

    To be called after a switch, or when there is no room for the next release.
    Raises: DeviceError when another one holds the lock, OSError.
    """
    with locked(home, "the removal of old releases"):
        found = (home / "apps").glob("*")
        apps = sorted(path for path in found if NAME.fullmatch(path.name) and (path / "releases").is_dir())
        gone = [folder for app in apps for folder in superfluous(app / "releases", keep)]
        for folder in gone:
            _hide(folder)
        for app in apps:
            for hidden in (app / "releases").glob(".*.gone"):
                shutil.rmtree(hidden, ignore_errors=True)
        return Collected(tuple(f"sha256:{folder.name}" for folder in gone), _sweep(home, apps))


def tidy(home: Path, keep: int = KEEP) -> Collected:
    """The same after work that is done already: what cannot be removed now waits for the next time."""
    with contextlib.suppress(OSError, DeviceError):
        return collect(home, keep)
    return Collected()


def superfluous(folder: Path, keep: int) -> list[Path]:
    """The releases of an app's folder that go, the oldest first."""
    known = [path for path in folder.glob("*") if PLAIN.fullmatch(path.name)]
    known.sort(key=lambda path: path.stat().st_mtime)  # whatever becomes of a release is written into its folder
    pointers = [path for path in folder.parent.iterdir() if path.is_symlink()]
    pointed = {os.path.basename(os.readlink(path)) for path in pointers}
    others = [path for path in known if path.name not in pointed]
    spare = max(0, keep - len(pointed))
    return [path for path in others[: max(0, len(others) - spare)] if not _at_work(path)]


def _at_work(folder: Path) -> bool:
    """Whether another push may be about to prove a release, or to switch to it."""
    try:
        state = fields.load((folder / "state.json").read_bytes()).get("name")
    except (OSError, ValueError):
        state = UNFINISHED[0]
    return state in UNFINISHED and abs(time.time() - folder.stat().st_mtime) < AT_WORK_S


def _hide(folder: Path) -> None:
    os.replace(folder, folder.with_name(f".{folder.name}.gone"))
    durable.sync(folder.parent)


def _sweep(home: Path, apps: list[Path]) -> int:
    """Remove the blobs that no release names or links to; the bytes that this freed.

    While another push is under way all of them stay: it has been told which of them it need not send.
    """
    incoming.clear(home)
    if any((home / "incoming").glob("*")):
        return 0
    folders = [folder for app in apps for folder in (app / "releases").glob("[!.]*") if folder.is_dir()]
    named = {name for folder in folders for name in _named_by(home, folder)}
    linked = {path.stat().st_ino for folder in folders for path in folder.iterdir()}
    freed = 0
    for path in (home / "blobs" / "sha256").glob("*"):
        facts = path.lstat()
        if PLAIN.fullmatch(path.name) and path.name not in named and facts.st_ino not in linked:
            path.unlink()
            freed += facts.st_size
    for path in (home / "compiled").glob("*"):
        if path.name not in named:
            shutil.rmtree(path, ignore_errors=True)
    return freed


def _named_by(home: Path, folder: Path) -> set[str]:
    """What a release's image names, as far as it can be read; what it has links to stays in any case."""
    own = f"sha256:{folder.name}"
    try:
        image = bundles.open_image(home, own)
    except BundleError:
        return {folder.name}
    return {each.partition(":")[2] for each in (own, image.config.digest, *(layer.digest for layer in image.layers))}
