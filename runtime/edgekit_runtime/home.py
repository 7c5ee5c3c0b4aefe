"""Where edgekit lives on a device: one folder, ``$EDGEKIT_HOME``.

blobs/sha256/…        shared by all releases       apps/APP/releases/DIGEST/   links into blobs + state.json
incoming/PUSH/…       not yet verified             apps/APP/current → releases/…
trust/allowed_signers                              apps/APP/previous → releases/…
reports/APP/*.ndjson  latency windows              lock
compiled/MODEL/…      what an engine made of it     courier/   where reports are delivered to
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import durable
from edgekit_runtime.errors import BundleError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
WAIT_S = 30.0
"""Others hold the lock while they read a bundle from the disk; a host waits ten times as long for an answer."""
LONGEST = 200


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


def compiled(home: Path, model: str) -> Path:
    """Where engines keep what they make of a model, which has this digest, until no release has it any more."""
    return home / "compiled" / model.partition(":")[2]


@contextlib.contextmanager
def locked(home: Path, purpose: str) -> Iterator[None]:
    """Hold the device's lock: one install, switch or rollback at a time; the file says who, and for what.

    Raises: DeviceError that names the holder when it is not free within ``WAIT_S``.
    """
    durable.folder(home)
    with (home / "lock").open("a+b", buffering=0) as file:
        _wait(file)
        _sign(file, f"{purpose} (process {os.getpid()}{_whence()})")
        try:
            yield
        finally:
            _sign(file, "")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for a short change of a file in it, which others may be about to change too. Raises: OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _wait(file: FileIO) -> None:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                file.seek(0)
                holder = file.read(LONGEST).decode(errors="replace")
                busy = "another push or rollback is at work on this device"
                told = f"{busy}: {holder}, for {_age(file)}" if holder else busy
                raise DeviceError(told, "try again when it is done") from error
            time.sleep(0.05)
        else:
            return


def _sign(file: FileIO, holder: str) -> None:
    with contextlib.suppress(OSError):  # on a full disk there is still a way back
        file.truncate(0)
        file.write(holder.encode())


def _age(file: FileIO) -> str:
    """How long ago the holder signed."""
    seconds = max(0, int(time.time() - os.fstat(file.fileno()).st_mtime))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def _whence() -> str:
    """The address of the host that a command comes from."""
    address = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return f", from {address}" if address else ""
