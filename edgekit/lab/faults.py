"""Faults: what can befall a device's card, and the way back."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.errors import DeviceError
from edgekit.lab import card, limits
from edgekit.lab.machine import Machine

SLOW_BYTES_S = 2_000_000
"""A worn card's."""


def full(machine: Machine) -> None:
    """No byte is left."""
    card.fill(machine.mounted)


def read_only(machine: Machine) -> None:
    """As the kernel makes it after an error."""
    machine.mount_again("ro")


def slow(machine: Machine) -> None:
    """Raises: DeviceError where a device's writes cannot be slowed."""
    _limit(machine, SLOW_BYTES_S)


def none(machine: Machine) -> None:
    """The card as it was."""
    machine.mount_again("rw")
    card.clear(machine.mounted)
    _limit(machine, None)


def _limit(machine: Machine, bytes_s: int | None) -> None:
    disk = card.loop_of(machine.image)
    done = disk is not None and limits.write_speed(machine.id, disk, bytes_s)
    if not done and bytes_s:
        raise DeviceError("a card cannot be slowed here", "this machine has no control group for it (blkio, or io)")


FAULTS: dict[str, Callable[[Machine], None]] = {"full": full, "read-only": read_only, "slow": slow, "none": none}
"""Those that come over a device that runs; a power cut is ``Machine.cut``, and a new start."""
