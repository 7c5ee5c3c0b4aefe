"""The user's cache: a folder for each kind of thing that costs time to make, and can be made again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from edgekit.errors import EdgekitError


def path(kind: str) -> Path:
    """Where the things of a kind lie, or would."""
    return Path(platformdirs.user_cache_dir("edgekit")) / kind


def folder(kind: str) -> Path:
    """The same, made where it is missing. Raises: EdgekitError."""
    place = path(kind)
    with making(place):
        place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def making(place: Path) -> Iterator[None]:
    """While something in the cache is made. Raises: EdgekitError when the system refuses it."""
    try:
        yield
    except OSError as error:
        raise EdgekitError(f"{place}: cannot be made: {error.strerror}", "look at XDG_CACHE_HOME") from error
