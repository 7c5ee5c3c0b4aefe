"""Summing: the devices of a secure round, and what they say together; from plain values to plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edgekit import fanout
from edgekit.errors import ConnectError, EdgekitError, HostKeyError, RoundError
from edgekit.federated.privacy.secure_sum import SecureSum, Vector
from edgekit.federated.rounds import admission, private
from edgekit.federated.rounds.asking import Ask
from edgekit.federated.rounds.circle import Circle, most_bytes
from edgekit.federated.rounds.round import CAME, FAILED, OFFLINE, Facts, Part, Round
from edgekit.federated.rounds.seat import Seat
from edgekit_train import update as updates
from edgekit_train.clipping import norm
from edgekit_train.device_key import digest_of
from edgekit_train.letters import ANOTHER
from edgekit_train.signed_advert import SignedAdvert
from edgekit_train.update import Update, Weights

TOGETHER = ".together"
"""In place of a device's name, and none that a device can have: of the update that is the mean of all."""
SLACK = 1e-3
"""What a norm may be beyond its bound, for rounding in float32."""


@dataclass(frozen=True)
class Terms:
    """``key``: of the round. ``size``: of a vector. ``enough``: so many that have learned do not wait for the rest.

    ``known``: a device's key, once it was seen.
    """

    key: str
    size: int
    enough: int
    known: Callable[[str], str | None]


@dataclass(frozen=True, eq=False)
class Sum:
    """``total``: of the devices that came; None where it was lost, for a ``reason``.

    ``masked``: their letters, as they came. ``keys``: those that devices have signed with.
    """

    parts: tuple[Part, ...]
    masked: dict[str, bytes]
    keys: dict[str, str]
    total: Vector | None
    reason: str | None


def summed(asks: Sequence[Ask], terms: Terms, until: float) -> Sum:
    """``until``: by the monotonic clock; devices learn no longer than that."""
    seats = {ask.device.name: Seat(ask) for ask in asks}
    with fanout.executor() as pool, ExitStack() as held:
        for seat in seats.values():
            held.enter_context(seat)
        most = most_bytes(terms.size, len(seats))
        circle = Circle(seats, SecureSum(terms.key, terms.size), pool, most)
        enrolled = circle.enrol(terms.enough, until, lambda name, signed: _admit(name, signed, terms))
        keys = {name: signed.public for name, signed in enrolled.items()}
        try:
            total = circle.total(enrolled)
        except RoundError as error:
            parts = (_lost(name, circle.gone.get(name, error), name in circle.masked) for name in seats)
            return Sum(tuple(parts), {}, keys, None, error.message)
    return Sum(tuple(_part(name, circle) for name in seats), circle.masked, keys, total, None)


def _admit(name: str, signed: SignedAdvert, terms: Terms) -> None:
    """Raises: RoundError for an advert that is not this device's, of this round."""
    admission.key_of(name, signed.public, terms.known(name))
    if (signed.device, signed.advert.round) != (name, terms.key):
        raise RoundError(f"{name}: says that it is {signed.device}, in round {signed.advert.round[:8]}")
    if not signed.fits():
        raise RoundError(f"{name}: the advert is not signed by the device's key")


def _part(name: str, circle: Circle) -> Part:
    """In the sum, even where it dropped out after that."""
    letter = circle.masked.get(name)
    if letter is None:
        return _lost(name, circle.gone[name])
    return Part(name, CAME, Facts(digest_of(letter), len(letter), 0, 0.0, masked=True))


def _lost(name: str, error: EdgekitError, given: bool = False) -> Part:
    """``given``: its part has come, of a sum that is lost."""
    away = isinstance(error, ConnectError) and not isinstance(error, HostKeyError)
    told = error.as_dict() | ({"hint": ANOTHER} if given else {})
    return Part(name, OFFLINE if away else FAILED, error=told)


def mean(round_: Round, total: Vector, weights: Weights) -> bytes:
    """The mean of what the devices that came have learned, as the bytes of one update, with one example for each.

    Raises: RoundError for a total that no honest devices have: longer than their clip, as far as that can be known.
    """
    subject, count, encoding = round_.subject, len(round_.of(CAME)), private.encoding(round_.plan, len(round_.parts))
    names = (subject.app, subject.family, round_.key, TOGETHER)  # of whichever releases
    try:
        delta = encoding.decode(total, count, weights)
    except ValueError as error:
        raise RoundError(f"secure aggregation: {error}", "start another round") from error
    length, most = norm(delta), encoding.most * (1 + SLACK) + encoding.rounding(total.size)
    if not length <= most:
        told = f"a mean of norm {length:.3g}, where devices that clip come to {most:.3g} at most"
        raise RoundError(f"secure aggregation: {told}", "start another round")
    return updates.dump(Update(*names, count, delta))
