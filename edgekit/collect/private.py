"""Private: files in the user's configuration folder that are made once, whole, and for their owner alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from edgekit.errors import ConfigError


def kept(path: Path, make: Callable[[], bytes]) -> Path:
    """The path; where nothing is, what ``make`` gives is put there. Raises: ConfigError."""
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as fresh:  # its mode is 0600
            fresh.write(make())
            fresh.flush()
            os.fsync(fresh.fileno())
            with suppress(FileExistsError):  # somebody else was quicker
                os.link(fresh.name, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}", "look at XDG_CONFIG_HOME") from error
    return path
