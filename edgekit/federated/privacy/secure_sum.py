"""Secure sum: the host's part in adding vectors up that it cannot read (``edgekit_train.masks`` has the devices').

Bonawitz et al., CCS 2017. Devices may drop out at every stage, as long as more than two thirds of those that came are
left. What any rule but a sum needs, the host does not have: see ``check_rule``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import RoundError
from edgekit.federated.mean import by_examples
from edgekit.federated.strategy import Strategy
from edgekit_train import letters, sealing, shamir
from edgekit_train.letters import LEAST, Advert, Confirmed, Masked, Opened, Shares
from edgekit_train.masks import added

Vector = NDArray[np.uint32]
ENROL, SHARE, ADD, CONFIRM, OPEN, DONE = range(6)


def check_rule(strategy: Strategy) -> None:
    """Raises: RoundError for a strategy that compares updates: it needs each one, and there are none."""
    if strategy.rule is not by_examples:
        raise RoundError(
            f"{strategy.name} and secure aggregation exclude each other: the host sees a sum and no update of it",
            "choose fedavg, fedprox, fedadam or fedyogi; or robust rules without secure aggregation",
        )


class SecureSum:
    """One round: each stage takes the devices' letters, is ended once, and gives what they are sent next.

    A letter of another round, stage or device than awaited raises RoundError and changes nothing: the device has
    dropped out, as has one that sends none. Ending a stage that too few have reached raises RoundError: the round is
    lost, and nothing of it was learned. Memory: a vector, whatever the number of devices.
    """

    def __init__(self, round_: str, size: int) -> None:
        self._round, self._size, self._stage = round_, size, ENROL
        self._adverts: dict[str, Advert] = {}
        self._shares: dict[str, Shares] = {}
        self._added: set[str] = set()
        self._confirmed: dict[str, Confirmed] = {}
        self._opened: dict[str, Opened] = {}
        self._total: Vector = np.zeros(size, np.uint32)

    def enrol(self, advert: Advert) -> None:
        """Of a device whose signature under it was checked."""
        self._take(advert, ENROL, self._adverts)
        if any(len(key) != sealing.KEY for key in advert.keys):
            raise _unfit(advert.device, "keys that are none")
        self._adverts[advert.device] = advert

    def roster(self) -> list[Advert]:
        """For every device: who takes part."""
        self._end(ENROL, len(self._adverts))
        return [self._adverts[device] for device in sorted(self._adverts)]

    def share(self, shares: Shares) -> None:
        self._take(shares, SHARE, self._shares)
        if set(shares.sealed) != set(self._adverts) - {shares.device}:
            raise _unfit(shares.device, "shares for other devices than take part")
        self._shares[shares.device] = shares

    def mailboxes(self) -> dict[str, dict[str, bytes]]:
        """For each device that has shared: what each of the others has sealed for it."""
        self._end(SHARE, len(self._shares))
        return {
            receiver: {sender: each.sealed[receiver] for sender, each in self._shares.items() if sender != receiver}
            for receiver in self._shares
        }

    def add(self, masked: Masked) -> None:
        self._take(masked, ADD, self._added)
        if masked.device not in self._shares or masked.vector.shape != (self._size,):
            raise _unfit(masked.device, "a vector that was not asked for")
        if masked.vector.dtype != np.uint32:
            raise _unfit(masked.device, f"a vector of {masked.vector.dtype}")
        self._total += masked.vector
        self._added.add(masked.device)

    def added(self) -> list[str]:
        """For each of these devices, to confirm: those in the sum."""
        self._end(ADD, len(self._added))
        return sorted(self._added)

    def confirm(self, confirmed: Confirmed) -> None:
        self._take(confirmed, CONFIRM, self._confirmed)
        message = letters.roll(self._round, self._added)
        signer = self._adverts[confirmed.device].signing
        if confirmed.device not in self._added or not sealing.is_signed(signer, confirmed.signature, message):
            raise _unfit(confirmed.device, "a signature that does not fit")
        self._confirmed[confirmed.device] = confirmed

    def confirmations(self) -> list[Confirmed]:
        """For each device that has confirmed: that the others were told the same."""
        self._end(CONFIRM, len(self._confirmed))
        return list(self._confirmed.values())

    def open(self, opened: Opened) -> None:
        self._take(opened, OPEN, self._opened)
        dropped = set(self._shares) - self._added
        if opened.device not in self._confirmed or (set(opened.dropped), set(opened.added)) != (dropped, self._added):
            raise _unfit(opened.device, "shares that were not asked for")
        self._opened[opened.device] = opened

    def total(self) -> Vector:
        """The sum of the vectors that were added, modulo 2^32. Raises: RoundError where a wrong share shows."""
        self._end(OPEN, len(self._opened))
        for device in sorted(self._added):
            mask = self._recovered(device, {each.device: each.added[device] for each in self._opened.values()})
            if hashlib.sha256(mask).digest() != self._shares[device].commitment:
                raise self._wrong_share(device)
            self._total -= sealing.stream(mask, self._size)
        for device in sorted(set(self._shares) - self._added):
            secret = self._recovered(device, {each.device: each.dropped[device] for each in self._opened.values()})
            if sealing.public(secret) != self._adverts[device].masking:
                raise self._wrong_share(device)
            self._forget(device, secret)
        return self._total

    def _forget(self, dropped: str, secret: bytes) -> None:
        """Takes away what the others have added for one that then sent nothing."""
        for other in self._added:
            purpose = letters.pair("mask", self._round, other, dropped)
            mask = sealing.stream(sealing.shared(secret, self._adverts[other].masking, purpose), self._size)
            self._total = added(self._total, mask, not other < dropped)

    def _recovered(self, device: str, shares: dict[str, int]) -> bytes:
        places = letters.places(self._adverts)
        try:
            return shamir.recover({places[each]: share for each, share in shares.items()}, self._threshold)
        except ValueError:
            raise self._wrong_share(device) from None

    @property
    def _threshold(self) -> int:
        return letters.threshold(len(self._adverts))

    def _take(self, letter: Any, stage: int, had: Iterable[str]) -> None:
        if letter.round != self._round or self._stage != stage:
            raise _unfit(letter.device, "a letter of another round, or too late")
        if letter.device in had or (stage != ENROL and letter.device not in self._adverts):
            raise _unfit(letter.device, "a second letter, or the letter of a stranger")

    def _end(self, stage: int, count: int) -> None:
        if self._stage != stage:
            raise RoundError("a stage of secure aggregation is ended once, and in order", "start another round")
        least = max(LEAST, self._threshold)
        if count < least:
            raise RoundError(
                f"secure aggregation: {count} devices are left, and fewer than {least} cannot be told apart from one",
                "nothing of them was learned; start another round",
            )
        self._stage += 1

    @staticmethod
    def _wrong_share(device: str) -> RoundError:
        return RoundError(f"secure aggregation: a wrong share of {device}'s secret", "start another round")


def _unfit(device: str, what: str) -> RoundError:
    return RoundError(f"secure aggregation: {what}, from {device[:80]}", "the device is left out of this round")
