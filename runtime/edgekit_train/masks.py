"""Masks: a device's part in a secure sum, in which the host learns what all said together and not what one did.

Bonawitz et al., CCS 2017, as it stands there for a host that may lie. A Party lives in the memory of one process: its
keys are for one round and are never written anywhere, and a device that was interrupted is one that dropped out.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Iterable, Mapping

import numpy as np

from edgekit_runtime.errors import DeviceError
from edgekit_train import letters, sealing, shamir
from edgekit_train.letters import LEAST, Advert, Confirmed, Masked, Opened, Shares
from edgekit_train.shamir import SHARE

if TYPE_CHECKING:
    from edgekit_train.noise import Randomness

    Vector = np.ndarray[Any, np.dtype[np.uint32]]


class Party:
    """Answers each stage once, and in order. Every method raises: DeviceError for what an honest host does not ask.

    ``least``: in a round of fewer devices this one takes no part. ``randomness`` is a test's, or the system's.
    """

    def __init__(self, round_: str, device: str, least: int = LEAST, randomness: Randomness = os.urandom) -> None:
        self._round, self._device, self._least, self._randomness = round_, device, max(least, LEAST), randomness
        self._sealing, self._masking, self._signing, self._self_mask = (randomness(sealing.KEY) for _ in range(4))
        self._stage = 0
        self._roster: dict[str, Advert] = {}
        self._held: dict[str, tuple[int, int]] = {}  # by device: shares of its masking key and of its self mask
        self._added: frozenset[str] = frozenset()

    def advert(self) -> Advert:
        """Who this is, to all the others."""
        self._enter(1)
        keys = sealing.public(self._sealing), sealing.public(self._masking), sealing.signer(self._signing)
        return Advert(self._round, self._device, *keys)

    def share(self, adverts: Iterable[Advert]) -> Shares:
        """Of all that take part, this one too; the caller has checked that each comes from the device it names."""
        self._enter(2)
        self._roster = self._checked(list(adverts))
        places = letters.places(self._roster)
        shared = [self._split(secret, list(places.values())) for secret in (self._masking, self._self_mask)]
        pairs = {device: (shared[0][place], shared[1][place]) for device, place in places.items()}
        self._held[self._device] = pairs.pop(self._device)
        sealed = {device: self._sealed(device, pair) for device, pair in pairs.items()}
        return Shares(self._round, self._device, sealed, hashlib.sha256(self._self_mask).digest())

    def mask(self, sealed: Mapping[str, bytes], vector: Vector) -> Masked:
        """``sealed``: by sender, what each of the others has shared; whose shares are missing is left out of all."""
        self._enter(3)
        if not set(sealed) <= set(self._roster) - {self._device}:
            raise _refusal("shares of devices that do not take part")
        self._held.update({sender: self._unsealed(sender, each) for sender, each in sealed.items()})
        self._check_enough(len(self._held))
        total = added(vector.astype(np.uint32), sealing.stream(self._self_mask, len(vector)), True)
        for other in sealed:
            total = added(total, self._pair_mask(other, len(vector)), self._device < other)
        return Masked(self._round, self._device, total)

    def confirm(self, added: Iterable[str]) -> Confirmed:
        """Those whose vectors have been added, this one's too."""
        self._enter(4)
        self._added = frozenset(added)
        if self._device not in self._added or not self._added <= set(self._held):
            raise _refusal("a list of devices that does not fit this round")
        self._check_enough(len(self._added))
        message = letters.roll(self._round, self._added)
        return Confirmed(self._round, self._device, sealing.sign(self._signing, message))

    def open(self, confirmed: Iterable[Confirmed]) -> Opened:
        """For as many as have confirmed the list that this one has confirmed; the last answer."""
        self._enter(5)
        message, signed = letters.roll(self._round, self._added), set()
        for each in confirmed:
            known = each.round == self._round and each.device in self._added
            if not known or not sealing.is_signed(self._roster[each.device].signing, each.signature, message):
                raise _refusal(f"the host has told {each.device[:80]} another list of who dropped out")
            signed.add(each.device)
        self._check_enough(len(signed))
        dropped = {device: pair[0] for device, pair in self._held.items() if device not in self._added}
        return Opened(self._round, self._device, dropped, {device: self._held[device][1] for device in self._added})

    def _enter(self, stage: int) -> None:
        if self._stage != stage - 1:
            raise _refusal(f"stage {stage} after stage {self._stage}")
        self._stage = stage

    def _checked(self, adverts: list[Advert]) -> dict[str, Advert]:
        roster = {each.device: each for each in adverts}
        keys = [key for each in adverts for key in each.keys]
        if len(adverts) < self._least or len(roster) < len(adverts):
            raise _refusal(f"{len(adverts)} devices, maybe one twice, where {self._least} are the least")
        if any(each.round != self._round for each in adverts) or len(set(keys)) < len(keys):
            raise _refusal("keys of another round, or of two devices")
        own = roster.get(self._device)
        if not own or own.masking != sealing.public(self._masking):
            raise _refusal("a list in which this device is missing")
        return roster

    def _split(self, secret: bytes, places: list[int]) -> dict[int, int]:
        return shamir.split(secret, letters.threshold(len(places)), places, self._randomness)

    def _sealed(self, receiver: str, pair: tuple[int, int]) -> bytes:
        plain = b"".join(share.to_bytes(SHARE, "little") for share in pair)
        about = letters.directed(self._round, self._device, receiver)
        return sealing.seal(self._key(self._device, receiver), plain, about)

    def _unsealed(self, sender: str, sealed: bytes) -> tuple[int, int]:
        try:
            key = self._key(sender, self._device)
            plain = sealing.unseal(key, sealed, letters.directed(self._round, sender, self._device))
        except ValueError as error:
            raise _refusal(f"shares of {sender} were changed on their way, or are of another round") from error
        if len(plain) != 2 * SHARE:
            raise _refusal(f"shares of {sender} are none")
        return int.from_bytes(plain[:SHARE], "little"), int.from_bytes(plain[SHARE:], "little")

    def _key(self, sender: str, receiver: str) -> bytes:
        """Seals once: one for each way."""
        other = receiver if sender == self._device else sender
        purpose = b"seal " + letters.directed(self._round, sender, receiver)
        return self._shared(self._sealing, self._roster[other].sealing, purpose)

    def _pair_mask(self, other: str, size: int) -> Vector:
        purpose = letters.pair("mask", self._round, self._device, other)
        return sealing.stream(self._shared(self._masking, self._roster[other].masking, purpose), size)

    def _shared(self, secret: bytes, other: bytes, purpose: bytes) -> bytes:
        try:
            return sealing.shared(secret, other, purpose)
        except ValueError as error:
            raise _refusal("a key that is none") from error

    def _check_enough(self, count: int) -> None:
        needed = letters.threshold(len(self._roster))
        if count < needed:
            raise _refusal(f"{count} of {len(self._roster)} devices, where {needed} must be")


def added(total: Vector, mask: Vector, up: bool) -> Vector:
    """Modulo 2^32."""
    return total + mask if up else total - mask


def _refusal(what: str) -> DeviceError:
    return DeviceError(f"secure aggregation refused: {what}", "nothing was told; the host starts another round")
