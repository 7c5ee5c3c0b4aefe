"""A secure sum conducted: whoever fails, lies or is slow has dropped out, and the others are told so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ConnectError, EdgekitError, RoundError
from edgekit.federated.privacy.secure_sum import SecureSum
from edgekit.federated.rounds import summing
from edgekit.federated.rounds.circle import Circle
from edgekit.federated.rounds.round import FAILED, OFFLINE
from edgekit.federated.rounds.summing import Terms
from edgekit_train import signed_advert
from edgekit_train.letters import Advert, Confirmed, Masked, Opened, Shares
from edgekit_train.masks import Party
from edgekit_train.signed_advert import SignedAdvert

ROUND, SIZE = "0a" * 16, 4
NAMES = ("a", "b", "c", "d", "e")
Bend = Callable[[Any], Any]


@dataclass
class Seat:
    """A device without a machine. ``bends``: by kind of letter, what becomes of its letters, or of the device."""

    device: str
    bends: dict[type[Any], Bend] = field(default_factory=dict)
    left: EdgekitError | None = None

    def __post_init__(self) -> None:
        self.party, self.vector = Party(ROUND, self.device), np.full(SIZE, ord(self.device), np.uint32)

    def advert(self) -> SignedAdvert:
        advert = self.bends.get(Advert, lambda letter: letter)(self.party.advert())
        return SignedAdvert(advert, b"", b"", "ssh-ed25519 AAAA")

    def letter(self, kind: type[Any], told: Mapping[str, Any], most_bytes: int) -> Any:
        says = {Shares: self.shares, Masked: self.masked, Confirmed: self.confirmed, Opened: self.opened}
        return self.bends.get(kind, lambda letter: letter)(says[kind](told))

    def shares(self, told: Mapping[str, Any]) -> Shares:
        return self.party.share([self.read(each) for each in told["adverts"]])

    def masked(self, told: Mapping[str, Any]) -> Masked:
        return self.party.mask({name: bytes.fromhex(each) for name, each in told["sealed"].items()}, self.vector)

    def confirmed(self, told: Mapping[str, Any]) -> Confirmed:
        return self.party.confirm(told["added"])

    def opened(self, told: Mapping[str, Any]) -> Opened:
        return self.party.open([signed_advert.letter(Confirmed, each) for each in told["confirmed"]])

    def leave(self, error: EdgekitError) -> None:
        self.left = error

    @staticmethod
    def read(said: Mapping[str, str]) -> Advert:
        return ADVERTS[said["letter"]]


ADVERTS: dict[str, Advert] = {}


@pytest.fixture(autouse=True)
def unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adverts as they are, under a number, for tests of what is done with them."""

    def as_dict(signed: SignedAdvert) -> dict[str, str]:
        name = f"{signed.device} {id(signed.advert)}"
        ADVERTS[name] = signed.advert
        return {"letter": name}

    monkeypatch.setattr(SignedAdvert, "as_dict", as_dict)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(5) as made:
        yield made


def circle(pool: ThreadPoolExecutor, **bends: dict[type[Any], Bend]) -> Circle:
    seats: Any = {name: Seat(name, bends.get(name, {})) for name in NAMES}
    return Circle(seats, SecureSum(ROUND, SIZE), pool, 1 << 20)


def total(conducted: Circle, enough: int = 5, for_s: float = 60) -> list[int]:
    enrolled = conducted.enrol(enough, time.monotonic() + for_s, lambda name, signed: None)
    return [int(each) for each in conducted.total(enrolled)]


def of(names: str) -> list[int]:
    return [sum(map(ord, names))] * SIZE


def fails(letter: Any) -> Any:
    raise ConnectError("the line is dead")


def named_b(letter: Any) -> Any:
    return replace(letter, device="b")


def of_another_round(letter: Any) -> Any:
    return replace(letter, round="f" * 32)


@pytest.mark.parametrize(
    ("kind", "bend"),
    [
        *((kind, bend) for kind in (Shares, Masked, Confirmed, Opened) for bend in (fails, named_b, of_another_round)),
        (Advert, fails),
        (Advert, of_another_round),
    ],
)
def test_who_fails_or_says_what_it_should_not_has_dropped_out(
    kind: type[Any], bend: Bend, pool: ThreadPoolExecutor
) -> None:
    conducted = circle(pool, c={kind: bend})
    assert total(conducted) == of("abcde" if kind in (Confirmed, Opened) else "abde")
    assert list(conducted.gone) == ["c"]
    assert list(conducted.masked.keys() ^ set(NAMES)) == ([] if kind in (Confirmed, Opened) else ["c"])


def test_who_is_slow_is_not_waited_for(pool: ThreadPoolExecutor) -> None:
    wake = threading.Event()

    def slow(advert: Advert) -> Advert:
        wake.wait(60)
        return advert

    for enough, for_s in ((4, 60.0), (5, 2.0)):
        conducted = circle(pool, e={Advert: slow})
        assert total(conducted, enough, for_s) == of("abcd")
        assert "was still learning" in str(conducted.gone["e"])
    wake.set()


def test_parts_tell_who_was_away(pool: ThreadPoolExecutor) -> None:
    conducted = circle(pool, a={Advert: fails}, b={Opened: fails})
    total(conducted)
    found = {name: summing._part(name, conducted) for name in NAMES}
    assert [each.state for each in found.values()] == [OFFLINE, "came", "came", "came", "came"]
    assert found["b"].facts
    assert (found["b"].facts.masked, found["b"].facts.examples) == (True, 0)
    assert summing._lost("a", RoundError("no")).state == FAILED
    assert summing._lost("a", RoundError("no")).error == {"code": "round", "message": "no", "hint": None}


def test_an_advert_is_its_devices_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advert = Party(ROUND, "a").advert()
    good = signed_advert.signed(tmp_path, advert)
    terms = Terms(ROUND, SIZE, 5, {"c": "ssh-ed25519 other"}.get)
    summing._admit("a", good, terms)
    for name, signed, why in (
        ("b", good, "says that it is a"),
        ("a", replace(good, advert=replace(advert, round="f" * 32)), "in round ffffffff"),
        ("a", replace(good, signature=b"none"), "is not signed"),
        ("a", replace(good, data=b"other"), "is not signed"),
    ):
        with pytest.raises(RoundError, match=why):
            summing._admit(name, signed, terms)
    known = replace(terms, known=lambda name: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnother")
    with pytest.raises(RoundError, match="signs with another key than before"):
        summing._admit("a", good, known)
