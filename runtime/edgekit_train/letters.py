"""Letters: what devices and a host say to each other so that the host learns a sum, and no part of it.

The stages of Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017: Advert,
Shares, Masked, Confirmed, Opened. Devices go by their names, in whose order places of shares and signs of masks are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

import numpy as np

LEAST = 3
"""Devices: of two, each knows the other's part from the sum."""
ANOTHER = "start another round"
"""What is to be done where devices have given their part of one: they give it once."""


@dataclass(frozen=True)
class Advert:
    """The public keys of a device for one round. Who reads it has checked that it is the device's (its signature)."""

    round: str
    device: str
    sealing: bytes
    masking: bytes
    signing: bytes

    @property
    def keys(self) -> tuple[bytes, ...]:
        return self.sealing, self.masking, self.signing


@dataclass(frozen=True)
class Shares:
    """``sealed``: by receiver, which only the receiver can open. ``commitment``: SHA-256 of the secret self mask."""

    round: str
    device: str
    sealed: Mapping[str, bytes]
    commitment: bytes


@dataclass(frozen=True, eq=False)
class Masked:
    """A vector of uint32 that is as good as random without the masks of it."""

    round: str
    device: str
    vector: np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class Confirmed:
    """A device's signature under the list of those whose vectors were added."""

    round: str
    device: str
    signature: bytes


@dataclass(frozen=True)
class Opened:
    """Shares: of the masking keys of devices that dropped out, of the self masks of the others; never both of one."""

    round: str
    device: str
    dropped: Mapping[str, int]
    added: Mapping[str, int]


def threshold(parties: int) -> int:
    """So many must answer at every stage: more than two thirds of those that shared secrets.

    Then a lying host, and up to a third of the devices with it, cannot have one list confirmed by enough devices and
    another one too (Bonawitz et al., 6.2).
    """
    return 2 * parties // 3 + 1


def places(devices: Iterable[str]) -> dict[str, int]:
    """Where each one's shares are taken: from 1 on, by name."""
    return {device: place for place, device in enumerate(sorted(devices), 1)}


def pair(purpose: str, round_: str, one: str, other: str) -> bytes:
    """The purpose of a key between two devices in one round, the same for both."""
    return json.dumps([purpose, round_, *sorted((one, other))]).encode()


def directed(round_: str, sender: str, receiver: str) -> bytes:
    """What sealed shares are about: they fit no other round, sender or receiver."""
    return json.dumps(["shares", round_, sender, receiver]).encode()


def roll(round_: str, devices: Iterable[str]) -> bytes:
    """What devices confirm with their signatures."""
    return json.dumps(["added", round_, *sorted(devices)]).encode()
