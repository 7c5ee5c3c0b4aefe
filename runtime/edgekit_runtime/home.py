"""Where edgekit lives on a device: one folder, ``$EDGEKIT_HOME``.

blobs/sha256/…        shared by all releases       apps/APP/releases/DIGEST/   links into blobs + state.json
incoming/…            uploads not yet verified     apps/APP/current → releases/…
trust/allowed_signers                              apps/APP/previous → releases/…
reports/APP/*.ndjson  latency windows              lock
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def default_home() -> Path:
    """``$EDGEKIT_HOME``, else ``/var/lib/edgekit`` for root, else ``~/.local/share/edgekit``."""
    named = os.environ.get("EDGEKIT_HOME")
    if named:
        return Path(named)
    return Path("/var/lib/edgekit") if os.geteuid() == 0 else Path.home() / ".local/share/edgekit"


def app_folder(home: Path, app: str) -> Path:
    """The folder of an app. Raises: BundleError for a name that could leave it."""
    if not NAME.fullmatch(app):
        raise BundleError(f"{app!r} is no app name", "use lower-case letters, digits, '.', '_' and '-', at most 64")
    return home / "apps" / app


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the device's lock: one install, switch or rollback at a time. Raises: DeviceError when it is taken."""
    durable.folder(home)
    with (home / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DeviceError(
                "another push or rollback is at work on this device", "try again when it is done"
            ) from error
        yield
