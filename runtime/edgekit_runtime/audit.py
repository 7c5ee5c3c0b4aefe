"""Audit: what was done to this device, by whom and from where; one line of JSON each in ``audit.log``.

Only ever added to. At ``LIMIT`` bytes the file becomes ``audit.log.1``, and the one of that name goes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from edgekit_runtime import durable
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.home import held

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 1 << 20
LONGEST = 500
"""The most characters of one text: what is refused may be of any length."""


def write(home: Path, what: str, **facts: Any) -> None:
    """Add a line. Raises: OSError."""
    told = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "what": what, **facts, "from": _origin()}
    line = {key: value[:LONGEST] if isinstance(value, str) else value for key, value in told.items()}
    durable.folder(home)
    with held(home):  # else two writers would both rename a full log
        path = home / "audit.log"
        if path.exists() and path.stat().st_size >= LIMIT:
            os.replace(path, home / "audit.log.1")
        durable.append(path, json.dumps(line, allow_nan=False).encode())


@contextlib.contextmanager
def told(home: Path, what: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Tell of what is done in the block, or of its refusal; facts may be added there.

    A log that cannot be written keeps nothing from being done: a full disk must leave the way back open.
    """
    try:
        yield facts
    except EdgekitError as error:
        refusal = {"code": error.code, "reason": error.message}
        with contextlib.suppress(OSError):
            write(home, f"{what} refused", **{**facts, **refusal})
        raise
    with contextlib.suppress(OSError):
        write(home, what, **facts)


def _origin() -> str:
    """The address of the host that a command comes from; "" for this machine itself."""
    return os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
