"""Admission: whether a bundle that is whole and signed may be installed on this device, and may serve.

``admit`` decides, from facts alone. What the facts rest on is kept beside the apps: the highest sequence that ever was
live, and the latest time that was ever known, as a board without a battery wakes up in the past.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit_runtime import audit, durable, probe
from edgekit_runtime.errors import Downgrade, Expired, IncompatibleTarget
from edgekit_runtime.home import app_folder

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.manifest import Manifest

DIGITS = 19
"""The most digits of a number that is kept."""


@dataclass(frozen=True)
class Facts:
    """What a device knows when a bundle asks to be let in; times in seconds since 1970.

    ``highest``: of the sequences that ever were live, of this app. ``serves``: it is this bundle that is live.
    """

    arch: str
    now_s: int
    highest: int
    serves: bool = False


def admit(manifest: Manifest, facts: Facts, *, allow_downgrade: bool = False) -> None:
    """Raises: IncompatibleTarget, Expired, Downgrade."""
    if manifest.arch != facts.arch:
        raise IncompatibleTarget(
            f"the bundle is for {manifest.arch}, this device is {facts.arch}", "build it for this device's target"
        )
    if manifest.expires is not None and manifest.expires <= facts.now_s:
        raise Expired(
            f"{manifest.app}: the bundle expired on {_day(manifest.expires)}, and it is {_day(facts.now_s)}",
            "build it again; should a clock have been ahead once, there or on a host: remove trust/time in its home",
        )
    if is_downgrade(manifest, facts) and not allow_downgrade:
        raise Downgrade(
            f"{manifest.app}: sequence {manifest.sequence} is older than {facts.highest}, which was live on the device",
            _way_out(manifest.app, facts),
        )


def _way_out(app: str, facts: Facts) -> str:
    """What to do about a downgrade. (A device knows no later time than that of a build; a host may.)"""
    if facts.highest > facts.now_s:
        return (
            f"that one was built at {_moment(facts.highest)}, and here it is {_moment(facts.now_s)}: "
            f"if its host's clock was ahead, remove apps/{app}/highest in the device's home"
        )
    return "'edgekit rollback' goes back to the release before, 'edgekit push --allow-downgrade' to any"


def clock() -> int:
    """What this machine takes for the time."""
    return int(time.time())


def is_downgrade(manifest: Manifest, facts: Facts) -> bool:
    return manifest.sequence < facts.highest and not facts.serves


def gather(home: Path, bundle: Bundle) -> Facts:
    """The facts of this device about a bundle whose signature has been checked."""
    manifest = bundle.manifest
    now_s = max(clock(), _kept(_time(home)), manifest.sequence)
    arch = probe.arch(platform.machine(), sys.maxsize > 1 << 32)
    return Facts(arch, now_s, highest(home, manifest.app), _serves(home, bundle))


def highest(home: Path, app: str) -> int:
    """Of the sequences that ever were live here, or were about to be, of an app; 0 for none."""
    return _kept(_highest(home, app))


def let_in(home: Path, bundle: Bundle, *, allow_downgrade: bool = False) -> None:
    """Before a bundle is installed; the time that it tells is kept. Raises: as ``admit``."""
    facts = gather(home, bundle)
    admit(bundle.manifest, facts, allow_downgrade=allow_downgrade)
    if facts.now_s > _kept(_time(home)):
        durable.folder(_time(home).parent)
        _keep(_time(home), facts.now_s)


def let_serve(home: Path, bundle: Bundle, *, allow_downgrade: bool = False) -> None:
    """Before a release is switched to; its sequence is kept first, as a cut may come right after the switch.

    Raises: as ``admit``; OSError when an allowed downgrade cannot be written into the audit log.
    """
    manifest, facts = bundle.manifest, gather(home, bundle)
    admit(manifest, facts, allow_downgrade=allow_downgrade)
    if is_downgrade(manifest, facts):
        told = {"app": manifest.app, "sequence": manifest.sequence, "highest": facts.highest}
        audit.write(home, "downgrade allowed", digest=bundle.digest, **told)
    if manifest.sequence > facts.highest:
        _keep(_highest(home, manifest.app), manifest.sequence)


def _serves(home: Path, bundle: Bundle) -> bool:
    with contextlib.suppress(OSError):
        current = os.readlink(app_folder(home, bundle.manifest.app) / "current")
        return os.path.basename(current) == bundle.digest.partition(":")[2]
    return False


def _time(home: Path) -> Path:
    return home / "trust" / "time"


def _highest(home: Path, app: str) -> Path:
    return app_folder(home, app) / "highest"


def _kept(path: Path) -> int:
    """A number that was kept; 0 where there is none."""
    try:
        text = path.read_bytes()[: DIGITS + 1].strip()
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return int(text) if text.isdigit() and len(text) <= DIGITS else 0


def _keep(path: Path, number: int) -> None:
    durable.write(path, b"%d\n" % number)


def _day(seconds: int) -> str:
    return _moment(seconds).partition("T")[0]


def _moment(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"
