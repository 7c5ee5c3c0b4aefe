"""The words of the courier: ``edgekit-runtime deliver`` and ``edgekit-runtime enrol``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgekit_courier import delivery, letter, rounds, taken
from edgekit_runtime import home as homes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def deliver(home: Path, *, once: bool) -> dict[str, Any]:
    """One delivery, or one every few minutes until it is interrupted. Raises: DeviceError, OSError."""
    if once:
        return {"delivered": delivery.deliver(home, greet=True)}
    with suppress(KeyboardInterrupt):
        rounds.run(home)
    return {}


def enrol(home: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Take a letter, {"url", "token", "certificate", "pinned"}: from now on all windows go there, also older ones.

    Raises: ValueError, KeyError for what is no letter; OSError.
    """
    known = letter.of(document)
    place = letter.folder(home)
    with homes.held(place):
        taken.forget(place)
        letter.write(place, known)
    return {"url": known.url}
