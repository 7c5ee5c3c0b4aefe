"""A device's part in a secure sum: whose keys it believes, and that it gives its part once, whatever the host does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.federated.privacy.secure_sum import SecureSum
from edgekit_runtime import host
from edgekit_runtime.errors import DeviceError
from edgekit_train import letter_file, peers, secure, signed_advert
from edgekit_train.fixed_point import Encoding
from edgekit_train.letters import Confirmed, Masked, Opened, Shares
from edgekit_train.masks import Party
from edgekit_train.signed_advert import SignedAdvert
from edgekit_train.task import Task, dump, parse
from edgekit_train.trainer import TrainingFailed

ROUND = "0a" * 16
TASK = Task("faces", "sha256:0", ROUND, "a", clip=1.0, secure=Encoding(1.0, 3))
VECTOR = np.array([7, 8, 9], np.uint32)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With keys of their own, which OpenSSH makes when they first sign."""
    return {name: tmp_path_factory.mktemp(name) for name in "abc"}


@pytest.fixture(scope="module")
def adverts(homes: dict[str, Path]) -> dict[str, SignedAdvert]:
    return {name: signed_advert.signed(home, Party(ROUND, name).advert()) for name, home in homes.items()}


class TestAdverts:
    def test_they_are_read_as_they_were_written(self, adverts: dict[str, SignedAdvert]) -> None:
        again = signed_advert.of(adverts["a"].as_dict())
        assert again == adverts["a"]
        assert again.fits()

    def test_what_another_has_signed_does_not_fit(self, adverts: dict[str, SignedAdvert]) -> None:
        one, other = adverts["a"], adverts["b"]
        for forged in (replace(one, data=other.data), replace(one, public=other.public), replace(one, signature=b"")):
            assert not forged.fits()

    @pytest.mark.parametrize(
        "changes",
        [
            {"letter": "!"},
            {"letter": ""},
            {"letter": 5},
            {"letter": signed_advert.text(letter_file.dump(Confirmed(ROUND, "a", b"")))},
            {"letter": signed_advert.text(bytes(1 << 13))},
            {"public": "ssh-ed25519 AAAA"},
            {"public": "a b\nc"},
            {"signature": "é"},
        ],
    )
    def test_what_is_none_is_told(self, changes: dict[str, Any], adverts: dict[str, SignedAdvert]) -> None:
        with pytest.raises(ValueError):
            signed_advert.of({**adverts["a"].as_dict(), **changes})


class TestPeers:
    def test_the_first_key_of_a_device_counts(self, adverts: dict[str, SignedAdvert], tmp_path: Path) -> None:
        peers.check(tmp_path, [adverts["b"]])
        peers.check(tmp_path, adverts.values())
        lines = peers.file(tmp_path).read_text().splitlines()
        assert lines == [f"{name} {adverts[name].public}" for name in "abc"]
        before = peers.file(tmp_path).stat().st_mtime_ns
        peers.check(tmp_path, adverts.values())
        assert peers.file(tmp_path).stat().st_mtime_ns == before

    def test_another_one_is_refused(
        self, adverts: dict[str, SignedAdvert], homes: dict[str, Path], tmp_path: Path
    ) -> None:
        peers.check(tmp_path, [adverts["b"]])
        stranger = signed_advert.signed(homes["c"], adverts["b"].advert)
        with pytest.raises(DeviceError, match="b has another key than this device knows"):
            peers.check(tmp_path, [adverts["a"], stranger])
        assert peers.file(tmp_path).read_text().splitlines() == [f"b {adverts['b'].public}"]

    def test_who_has_not_signed_is_not_remembered(self, adverts: dict[str, SignedAdvert], tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="b has not signed"):
            peers.check(tmp_path, [adverts["a"], replace(adverts["b"], signature=adverts["a"].signature)])
        assert not peers.file(tmp_path).exists()


class Host:
    """An honest one, of devices a, b and c, of whom a speaks to it; ``bent``: what a is told instead, by its key."""

    def __init__(self, part: secure.Part, homes: dict[str, Path], bent: dict[str, Any]) -> None:
        self.part, self.homes, self.bent, self.told = part, homes, bent, list[dict[str, Any]]()
        self.others = {name: Party(ROUND, name) for name in "bc"}
        self.sum = SecureSum(ROUND, len(VECTOR))

    def tell(self, document: dict[str, Any]) -> bool:
        self.told.append(document)
        return True

    def line(self) -> dict[str, Any] | None:
        steps = (self.adverts, self.mailbox, self.added, self.confirmed)
        said = steps[len(self.told) - 1](self.told[-1])
        return {key: self.bent.get(key, value) for key, value in said.items()}

    def adverts(self, said: dict[str, Any]) -> dict[str, Any]:
        known = {"a": signed_advert.of(said)}
        known |= {name: signed_advert.signed(self.homes[name], party.advert()) for name, party in self.others.items()}
        for each in known.values():
            self.sum.enrol(each.advert)
        return {"adverts": [each.as_dict() for each in known.values()]}

    def mailbox(self, said: dict[str, Any]) -> dict[str, Any]:
        roster = self.sum.roster()
        self.sum.share(signed_advert.letter(Shares, said))
        for party in self.others.values():
            self.sum.share(party.share(roster))
        self.boxes = self.sum.mailboxes()
        return {"sealed": {sender: each.hex() for sender, each in self.boxes["a"].items()}}

    def added(self, said: dict[str, Any]) -> dict[str, Any]:
        assert (self.part.folder / "given").read_text() == f"{ROUND}\n"  # before anything is told
        self.sum.add(signed_advert.letter(Masked, said))
        for name, party in self.others.items():
            self.sum.add(party.mask(self.boxes[name], VECTOR))
        self.names = self.sum.added()
        return {"added": self.names}

    def confirmed(self, said: dict[str, Any]) -> dict[str, Any]:
        self.sum.confirm(signed_advert.letter(Confirmed, said))
        for party in self.others.values():
            self.sum.confirm(party.confirm(self.names))
        self.said = self.sum.confirmations()
        return {"confirmed": [{"letter": signed_advert.text(letter_file.dump(each))} for each in self.said]}

    def total(self, last: dict[str, Any]) -> list[int]:
        self.sum.open(signed_advert.letter(Opened, last))
        for party in self.others.values():
            self.sum.open(party.open(self.said))
        return [int(each) for each in self.sum.total()]


@pytest.fixture
def meet(tmp_path: Path, homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A device with a host that it speaks to."""
    (tmp_path / "round").mkdir()

    def made(**bent: Any) -> Host:
        made = Host(secure.Part(homes["a"], tmp_path / "round", TASK), homes, bent)
        monkeypatch.setattr(host, "tell", made.tell)
        monkeypatch.setattr(host, "line", made.line)
        return made

    return made


class TestTheConversation:
    def test_it_ends_with_the_sum(self, meet: Any) -> None:
        honest = meet()
        honest.part.check()
        assert honest.total(honest.part.take(VECTOR)) == [21, 24, 27]

    def test_and_is_not_had_twice(self, meet: Any) -> None:
        meet().part.take(VECTOR)
        again = meet()
        with pytest.raises(TrainingFailed, match="given its part of this round already"):
            again.part.check()
        with pytest.raises(TrainingFailed, match="given its part of this round already"):
            again.part.take(VECTOR)
        assert len(again.told) == 2  # an advert and shares, and no vector

    @pytest.mark.parametrize(
        ("bent", "told"),
        [
            ({"adverts": []}, 1),
            ({"adverts": "all"}, 1),
            ({"adverts": [{}]}, 1),
            ({"sealed": {"z": ""}}, 2),
            ({"sealed": {"b": "zz"}}, 2),
            ({"added": ["a"]}, 3),
            ({"added": [1, 2, 3]}, 3),
            ({"confirmed": []}, 4),
            ({"confirmed": [{"letter": ""}]}, 4),
        ],
    )
    def test_a_host_that_asks_for_something_else_gets_nothing_more(
        self, bent: dict[str, Any], told: int, meet: Any
    ) -> None:
        liar = meet(**bent)
        with pytest.raises((DeviceError, ValueError, KeyError)):
            liar.part.take(VECTOR)
        assert len(liar.told) == told

    def test_a_host_that_hangs_up(self, meet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        part = meet().part
        monkeypatch.setattr(host, "line", lambda: None)
        with pytest.raises(DeviceError, match="the host has ended the round"):
            part.take(VECTOR)


class TestTheTask:
    def test_it_says_how_numbers_are_written(self) -> None:
        assert parse(dump(TASK), 1 << 20).secure == Encoding(1.0, 3)
        assert parse(dump(replace(TASK, secure=None)), 1 << 20).secure is None

    @pytest.mark.parametrize("changes", [{"clip": None}, {"clip": 2.0}, {"noise": 0.5}, {"secure": Encoding(0.5, 3)}])
    def test_it_has_a_clip_that_they_hold_and_no_noise(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="a secure sum"):
            dump(replace(TASK, **changes))
