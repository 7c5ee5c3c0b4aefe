"""Circle: a secure sum, conducted: each stage is told to all devices at once, and who fails has dropped out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any

from edgekit import fanout
from edgekit.errors import EdgekitError, RoundError
from edgekit.federated.privacy.secure_sum import SecureSum, Vector
from edgekit.federated.rounds.seat import Seat
from edgekit_train import letter_file, signed_advert
from edgekit_train.letters import Confirmed, Masked, Opened, Shares
from edgekit_train.signed_advert import Kind, SignedAdvert

Admit = Callable[[str, SignedAdvert], None]
"""Raises: RoundError for an advert that is not the device's."""
PER_DEVICE, FIXED = 1 << 10, 1 << 13


@dataclass
class Circle:
    """``gone``: who has dropped out, and why. ``masked``: by device, the letters whose vectors were added."""

    seats: Mapping[str, Seat]
    sum: SecureSum
    pool: Executor
    most_bytes: int
    gone: dict[str, EdgekitError] = field(default_factory=dict)
    masked: dict[str, bytes] = field(default_factory=dict)

    def enrol(self, enough: int, until: float, admit: Admit) -> dict[str, SignedAdvert]:
        """Those who have learned, by the time that there are ``enough``, or it is ``until`` (monotonic clock)."""
        found = dict[str, SignedAdvert]()
        at_work = {self.pool.submit(seat.advert): name for name, seat in self.seats.items()}
        while at_work and len(found) < enough and (left := until - time.monotonic()) > 0:
            for future in wait(at_work, left, FIRST_COMPLETED).done:
                self._enrol(at_work.pop(future), future, admit, found)
        for name in at_work.values():
            self._lose(name, RoundError(f"{name}: was still learning when the others went on"))
        return found

    def total(self, enrolled: Mapping[str, SignedAdvert]) -> Vector:
        """Raises: RoundError where too few are left; nothing of it was learned then."""
        self.sum.roster()
        adverts = {"adverts": [each.as_dict() for each in enrolled.values()]}
        self._stage(Shares, dict.fromkeys(enrolled, adverts), self.sum.share)
        boxes = self.sum.mailboxes().items()
        sealed = {name: {"sealed": {sender: each.hex() for sender, each in box.items()}} for name, box in boxes}
        self._stage(Masked, sealed, self._add)
        added = self.sum.added()
        self._stage(Confirmed, {name: {"added": added} for name in added}, self.sum.confirm)
        said = self.sum.confirmations()
        confirmed = {"confirmed": [{"letter": signed_advert.text(letter_file.dump(each))} for each in said]}
        self._stage(Opened, {each.device: confirmed for each in said}, self.sum.open)
        return self.sum.total()

    def _enrol(self, name: str, future: Future[SignedAdvert], admit: Admit, found: dict[str, SignedAdvert]) -> None:
        try:
            signed = future.result()
            admit(name, signed)
            self.sum.enrol(signed.advert)
            found[name] = signed
        except EdgekitError as error:
            self._lose(name, error)

    def _stage(self, kind: type[Kind], told: Mapping[str, Mapping[str, Any]], take: Callable[[Kind], None]) -> None:
        def heard(name: str) -> Kind:
            return self.seats[name].letter(kind, told[name], self.most_bytes)

        for name, future in fanout.each(self.pool, heard, list(told)):
            try:
                letter: Any = future.result()
                if letter.device != name:
                    raise RoundError(f"{name}: a letter of {letter.device}")
                take(letter)
            except EdgekitError as error:
                self._lose(name, error)

    def _add(self, masked: Masked) -> None:
        self.sum.add(masked)
        self.masked[masked.device] = letter_file.dump(masked)

    def _lose(self, name: str, error: EdgekitError) -> None:
        self.gone[name] = error
        self.seats[name].leave(error)


def most_bytes(size: int, devices: int) -> int:
    """Of any letter, where a vector has so many numbers and that many devices take part."""
    return FIXED + 4 * size + PER_DEVICE * devices
