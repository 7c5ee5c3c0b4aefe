"""Secure sums: exact with drop-outs at every stage; and nothing for a host that lies, or a device that cheats."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import DeviceError, RoundError
from edgekit.federated import strategies
from edgekit.federated.privacy.central import Central
from edgekit.federated.privacy.secure_sum import SecureSum, check_rule
from edgekit_train import letters, sealing
from edgekit_train.clipping import clip
from edgekit_train.fixed_point import Encoding
from edgekit_train.letters import Confirmed, Masked, Opened, threshold
from edgekit_train.masks import Party
from edgekit_train.shamir import PRIME
from tests.lab.updates import BASE, updates_of

ROUND, OTHER_ROUND, SIZE = "a" * 32, "b" * 32, 5
STAGES = ("enrol", "share", "add", "confirm", "open")


def same(letter: Any) -> Any:
    return letter


@dataclass
class Fleet:
    """Devices and their vectors; ``gone``: who is silent from which stage on. ``bent``: what becomes of a letter."""

    count: int
    gone: dict[str, str] = field(default_factory=dict)
    bent: dict[tuple[str, str], Callable[[Any], Any]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    size: int = SIZE

    def __post_init__(self) -> None:
        names = [f"pi-{number}" for number in range(self.count)]
        self.parties = {name: Party(ROUND, name) for name in names}
        random = np.random.default_rng(7)
        self.vectors = {name: random.integers(0, 1 << 32, self.size, np.uint32) for name in names}
        self.host = SecureSum(ROUND, self.size)

    def at(self, stage: str) -> list[str]:
        """Who is there still."""
        here = [name for name in self.parties if STAGES.index(self.gone.get(name, "open")) >= STAGES.index(stage)]
        return [name for name in here if self.gone.get(name) != stage]

    def say(self, stage: str, name: str, letter: Any) -> None:
        try:
            getattr(self.host, stage)(self.bent.get((stage, name), same)(letter))
        except RoundError as error:
            self.gone[name] = STAGES[STAGES.index(stage) + 1] if stage != "open" else stage
            self.refused.append(f"{name}: {error.message}")

    def until_added(self) -> list[str]:
        for name in self.at("enrol"):
            self.say("enrol", name, self.parties[name].advert())
        roster = self.host.roster()
        for name in self.at("share"):
            self.say("share", name, self.parties[name].share(roster))
        mailboxes = self.host.mailboxes()
        for name in self.at("add"):
            self.say("add", name, self.parties[name].mask(mailboxes[name], self.vectors[name]))
        return self.host.added()

    def total(self) -> np.ndarray:
        added = self.until_added()
        for name in self.at("confirm"):
            self.say("confirm", name, self.parties[name].confirm(added))
        confirmations = self.host.confirmations()
        for name in self.at("open"):
            self.say("open", name, self.parties[name].open(confirmations))
        return self.host.total()

    def sum_of(self, names: Collection[str]) -> list[int]:
        return [sum(int(self.vectors[name][place]) for name in names) % (1 << 32) for place in range(SIZE)]


@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_the_sum_is_exact(count: int) -> None:
    fleet = Fleet(count)
    assert fleet.total().tolist() == fleet.sum_of(fleet.parties)


@pytest.mark.parametrize("stage", STAGES)
def test_it_is_the_sum_of_those_who_were_added_whoever_drops_out_when(stage: str) -> None:
    lost = ["pi-1", "pi-5"]
    fleet = Fleet(8, dict.fromkeys(lost, stage))
    names = set(fleet.parties) - (set(lost) if stage in ("enrol", "share", "add") else set())
    assert fleet.total().tolist() == fleet.sum_of(names)


def test_six_of_twenty_may_be_lost_over_the_stages() -> None:
    fleet = Fleet(
        20, dict(zip(["pi-0", "pi-3", "pi-4", "pi-9", "pi-12", "pi-19"], [*STAGES[1:], "add", "open"], strict=True))
    )
    added = [name for name in fleet.parties if fleet.gone.get(name) not in ("enrol", "share", "add")]
    assert fleet.total().tolist() == fleet.sum_of(added)


@settings(max_examples=8, deadline=None)
@given(st.integers(3, 9), st.data())
def test_any_drop_outs_leave_the_exact_sum_or_none(count: int, data: st.DataObject) -> None:
    names = st.sampled_from([f"pi-{number}" for number in range(count)])
    fleet = Fleet(count, data.draw(st.dictionaries(names, st.sampled_from(STAGES), max_size=count)))
    enrolled = [name for name in fleet.parties if fleet.gone.get(name) != "enrol"]
    added = [name for name in enrolled if fleet.gone.get(name) not in ("share", "add")]
    enough = len(enrolled) >= 3 and count - len(fleet.gone) >= threshold(len(enrolled))
    try:
        assert fleet.total().tolist() == fleet.sum_of(added)
        assert enough
    except RoundError:
        assert not enough


@pytest.mark.parametrize("stage", STAGES)
def test_below_the_threshold_the_round_is_refused(stage: str) -> None:
    fleet = Fleet(7, {f"pi-{number}": stage for number in range(5 if stage == "enrol" else 3)})
    with pytest.raises(RoundError, match="devices are left"):
        fleet.total()


def test_what_is_sent_is_as_good_as_random() -> None:
    """Of a vector of zeros, too: half of all bits are set, and two rounds have nothing in common."""
    masked = []
    for _ in range(2):
        parties = {name: Party(ROUND, name) for name in "abc"}
        roster = [party.advert() for party in parties.values()]
        shares = {name: party.share(roster) for name, party in parties.items()}
        sealed = {name: each.sealed["a"] for name, each in shares.items() if name != "a"}
        masked.append(parties["a"].mask(sealed, np.zeros(50_000, np.uint32)).vector)
    bits = np.unpackbits(np.array(masked).view(np.uint8)).mean()
    assert bits == pytest.approx(0.5, abs=0.002)
    assert np.mean(masked[0] == masked[1]) < 0.001


class TestTheMeanOfDeltas:
    def test_it_is_the_mean_of_what_devices_learned(self) -> None:
        encoding, random = Encoding(1.0, 5), np.random.default_rng(7)
        deltas = [clip({"w": random.normal(size=4).astype(np.float32)}, 1.0).delta for _ in range(5)]
        fleet = Fleet(5, {"pi-2": "add"}, size=4)
        fleet.vectors = {name: encoding.encode(delta) for name, delta in zip(fleet.parties, deltas, strict=True)}
        mean = encoding.decode(fleet.total(), 4, deltas[0])
        assert mean["w"] == pytest.approx(np.mean([deltas[at]["w"] for at in (0, 1, 3, 4)], axis=0), abs=1e-7)

    def test_it_enters_a_strategy_as_one_update_would(self) -> None:
        updates = [replace(each, examples=10) for each in updates_of(np.random.default_rng(7).normal(size=(4, 6)))]
        encoding, strategy = Encoding(8.0, 4), strategies.fedadam()
        vectors = [encoding.encode(each.delta) for each in updates]
        mean = encoding.decode(np.sum(vectors, axis=0, dtype=np.uint32), 4, BASE)
        start = strategy.init(BASE)
        masked = strategy.aggregate(start, [replace(updates[0], device="sum", delta=mean)])
        plain = strategy.aggregate(start, updates)
        for name, array in plain.weights.items():
            assert masked.weights[name] == pytest.approx(array, abs=1e-5)

    def test_central_noise_is_added_to_a_sum_that_nobody_has_seen_the_parts_of(self) -> None:
        encoding, fleet = Encoding(1.0, 4), Fleet(4, size=4)
        for name in fleet.parties:
            fleet.vectors[name] = encoding.encode({"w": np.full(4, 0.5, np.float32)})
        mean = encoding.decode(fleet.total(), 4, {"w": np.zeros(4)})
        delta = Central(clip=1.0, noise=0.0, expected=4).released(mean["w"] * 4)
        assert delta == pytest.approx(np.full(4, 0.5), abs=1e-6)


class TestAHostThatLies:
    """Devices answer each question once, and only what an honest host would ask."""

    def fleet(self) -> Fleet:
        fleet = Fleet(6, {"pi-5": "add"})
        fleet.until_added()
        return fleet

    def test_it_cannot_have_both_shares_by_telling_some_that_one_dropped_out(self) -> None:
        """Three are told that pi-4 has sent its vector, and three that it has not: then pi-4's would be open."""
        fleet = self.fleet()
        truth, lie = [f"pi-{number}" for number in range(5)], [f"pi-{number}" for number in range(4)] + ["pi-5"]
        told = {"pi-0": truth, "pi-1": truth, "pi-2": truth, "pi-3": lie}
        signed = [fleet.parties[name].confirm(added) for name, added in told.items()]
        signed.append(fleet.parties["pi-4"].confirm(truth))
        for name in told:
            with pytest.raises(DeviceError, match="another list"):
                fleet.parties[name].open(signed)

    def test_it_cannot_leave_the_contradicting_signatures_out(self) -> None:
        fleet = self.fleet()
        truth, lie = [f"pi-{number}" for number in range(5)], [f"pi-{number}" for number in range(4)] + ["pi-5"]
        halves = [fleet.parties[name].confirm(truth) for name in ("pi-0", "pi-1", "pi-4")]
        fleet.parties["pi-2"].confirm(lie)
        with pytest.raises(DeviceError, match="3 of 6 devices, where 5"):
            fleet.parties["pi-0"].open(halves)
        with pytest.raises(DeviceError, match="another list|devices, where 5"):
            fleet.parties["pi-2"].open(halves)

    def test_it_gets_no_second_answer(self) -> None:
        fleet = self.fleet()
        party, added = fleet.parties["pi-0"], [f"pi-{number}" for number in range(5)]
        party.confirm(added)
        with pytest.raises(DeviceError, match="stage 4 after stage 4"):
            party.confirm([*added[:4], "pi-5"])
        party.open([fleet.parties[name].confirm(added) for name in added[1:]] + [party_signs(party, added)])
        with pytest.raises(DeviceError, match="stage 5 after stage 5"):
            party.open([])

    @pytest.mark.parametrize(
        "added", [["pi-0"], ["pi-0", "pi-1", "pi-2"], [f"pi-{n}" for n in range(1, 6)], [f"pi-{n}" for n in range(7)]]
    )
    def test_it_cannot_name_too_few_or_others(self, added: list[str]) -> None:
        with pytest.raises(DeviceError, match="refused"):
            self.fleet().parties["pi-0"].confirm(added)

    def test_signatures_of_strangers_and_of_other_rounds_count_for_nothing(self) -> None:
        fleet = self.fleet()
        added = [f"pi-{number}" for number in range(5)]
        signed = [fleet.parties[name].confirm(added) for name in added]
        for forged in (
            replace(signed[1], device="pi-5"),
            replace(signed[1], round=OTHER_ROUND),
            replace(signed[1], signature=b""),
        ):
            party = Fleet(6, {"pi-5": "add"})
            party.until_added()
            party.parties["pi-0"].confirm(added)
            with pytest.raises(DeviceError, match="another list"):
                party.parties["pi-0"].open([forged])

    def test_it_cannot_bring_a_device_among_too_few_or_twins(self) -> None:
        adverts = [Party(ROUND, name).advert() for name in "bcdef"]
        for others in (
            adverts[:1],
            [*adverts, adverts[0]],
            [*adverts, replace(adverts[0], device="g")],
            [*adverts[:4], replace(adverts[4], round=OTHER_ROUND)],
        ):
            party = Party(ROUND, "a")
            with pytest.raises(DeviceError, match="refused"):
                party.share([party.advert(), *others])
        party = Party(ROUND, "a", least=10)
        with pytest.raises(DeviceError, match="10 are the least"):
            party.share([party.advert(), *adverts])
        party = Party(ROUND, "a")
        party.advert()
        with pytest.raises(DeviceError, match="missing"):
            party.share(adverts)

    def test_a_key_of_low_order_is_refused(self) -> None:
        party = Party(ROUND, "a")
        adverts = [party.advert(), Party(ROUND, "b").advert(), replace(Party(ROUND, "c").advert(), sealing=bytes(32))]
        with pytest.raises(DeviceError, match="a key that is none"):
            party.share(adverts)

    def test_stages_are_in_order(self) -> None:
        party = Party(ROUND, "a")
        for call in (lambda: party.share([]), lambda: party.mask({}, np.zeros(1, np.uint32)), lambda: party.open([])):
            with pytest.raises(DeviceError, match="after stage 0"):
                call()


def party_signs(party: Party, added: list[str]) -> Confirmed:
    """The signature that a device has given already, of its own key."""
    return Confirmed(ROUND, party._device, sealing.sign(party._signing, letters.roll(ROUND, added)))


class TestDevicesThatCheat:
    def test_shares_that_were_changed_on_their_way_are_refused(self) -> None:
        parties = {name: Party(ROUND, name) for name in "abc"}
        roster = [party.advert() for party in parties.values()]
        shares = {name: party.share(roster) for name, party in parties.items()}
        fine = {name: shares[name].sealed["a"] for name in "bc"}
        swapped, cut = {"b": fine["c"], "c": fine["b"]}, {**fine, "b": fine["b"][:-1]}
        elsewhere = {**fine, "b": shares["b"].sealed["c"]}
        own = {**fine, "b": shares["a"].sealed["b"]}
        for sealed in (swapped, cut, elsewhere, own, {**fine, "d": b""}):
            party = copy_of(parties["a"])
            with pytest.raises(DeviceError, match="refused"):
                party.mask(sealed, np.zeros(1, np.uint32))
        parties["a"].mask(fine, np.zeros(1, np.uint32))

    def test_shares_of_another_round_are_refused(self) -> None:
        """With the same keys even, which an honest device does not use twice."""
        secrets = {name: [os.urandom(32) for _ in range(4)] for name in "abc"}
        sealed = {}
        for round_ in (ROUND, OTHER_ROUND):
            parties = {name: Party(round_, name, randomness=keys_of(secrets[name])) for name in "abc"}
            roster = [party.advert() for party in parties.values()]
            sealed[round_] = {name: parties[name].share(roster).sealed.get("a", b"") for name in "abc"}
            keys, last = roster[0].keys, parties["a"]
        assert keys == Party(ROUND, "a", randomness=keys_of(secrets["a"])).advert().keys
        replayed = {name: sealed[ROUND][name] for name in "bc"}
        with pytest.raises(DeviceError, match="of another round"):
            last.mask(replayed, np.zeros(1, np.uint32))

    def test_a_wrong_share_shows(self) -> None:
        def wrong(opened: Opened) -> Opened:
            return replace(opened, added={**opened.added, "pi-1": opened.added["pi-1"] ^ 1})

        for gone in ({}, {"pi-3": "open"}):  # with a share to spare, and without
            with pytest.raises(RoundError, match="a wrong share of pi-1"):
                Fleet(4, dict(gone), {("open", "pi-0"): wrong}).total()

    def test_a_share_that_is_wrong_by_design_shows(self) -> None:
        """So that another secret of the right size comes out: a key tells it, or a commitment does."""

        def wrong(opened: Opened) -> Opened:
            if opened.dropped:  # shares at 1, 2 and 4: the first one counts 8/3 times
                return replace(opened, dropped={"pi-2": (opened.dropped["pi-2"] + 3) % PRIME})
            third = (opened.added["pi-1"] + pow(3, -1, PRIME)) % PRIME  # at 1, 2 and 3: three times
            return replace(opened, added={**opened.added, "pi-1": third})

        for gone, device in (({"pi-2": "add"}, "pi-2"), ({"pi-3": "open"}, "pi-1")):
            with pytest.raises(RoundError, match=f"a wrong share of {device}"):
                Fleet(4, gone, {("open", "pi-0"): wrong}).total()

    def test_a_wrong_share_of_one_who_dropped_out_shows(self) -> None:
        def wrong(opened: Opened) -> Opened:
            return replace(opened, dropped={"pi-2": 5})

        with pytest.raises(RoundError, match="a wrong share of pi-2"):
            Fleet(4, {"pi-2": "add"}, {("open", "pi-0"): wrong}).total()

    @pytest.mark.parametrize(
        ("stage", "bend"),
        [
            ("enrol", lambda advert: replace(advert, round=OTHER_ROUND)),
            ("enrol", lambda advert: replace(advert, masking=b"")),
            ("enrol", lambda advert: replace(advert, device="pi-0")),
            ("share", lambda shares: replace(shares, round=OTHER_ROUND)),
            ("share", lambda shares: replace(shares, sealed={})),
            ("share", lambda shares: replace(shares, device="stranger")),
            ("add", lambda masked: replace(masked, round=OTHER_ROUND)),
            ("add", lambda masked: replace(masked, vector=masked.vector[1:])),
            ("add", lambda masked: replace(masked, vector=masked.vector.astype(float))),
            ("add", lambda masked: replace(masked, device="pi-0")),
            ("confirm", lambda confirmed: replace(confirmed, round=OTHER_ROUND)),
            ("confirm", lambda confirmed: replace(confirmed, signature=bytes(64))),
            ("open", lambda opened: replace(opened, round=OTHER_ROUND)),
            ("open", lambda opened: replace(opened, dropped={"pi-0": 1})),
            ("open", lambda opened: replace(opened, added={})),
        ],
    )
    def test_a_letter_that_does_not_fit_is_one_drop_out(self, stage: str, bend: Callable[[Any], Any]) -> None:
        fleet = Fleet(7, bent={(stage, "pi-6"): bend})
        left_out = {"pi-6"} if stage in ("enrol", "share", "add") else set()
        assert fleet.total().tolist() == fleet.sum_of(set(fleet.parties) - left_out)
        assert len(fleet.refused) == 1

    def test_who_comes_late_is_not_in_a_sum_that_was_told(self) -> None:
        fleet = Fleet(6, {"pi-5": "add"})
        fleet.until_added()
        late = Masked(ROUND, "pi-5", fleet.vectors["pi-5"])
        with pytest.raises(RoundError, match="too late"):
            fleet.host.add(late)


def copy_of(party: Party) -> Party:
    """As it is now; an honest device is never copied."""
    other = object.__new__(Party)
    other.__dict__ = {**party.__dict__, "_held": dict(party._held)}
    return other


def keys_of(secrets: list[bytes]) -> Callable[[int], bytes]:
    """These first, then the system's randomness."""
    rest = iter(secrets)
    return lambda count: next(rest, b"") or os.urandom(count)


@pytest.mark.parametrize("make", strategies.MEANS)
def test_means_are_of_sums(make: Callable[[], strategies.Strategy]) -> None:
    check_rule(make())


@pytest.mark.parametrize("make", strategies.ROBUST)
def test_robust_rules_are_excluded(make: Callable[[int], strategies.Strategy]) -> None:
    with pytest.raises(RoundError, match="exclude each other"):
        check_rule(make(1))


def test_more_than_two_thirds_must_be_left() -> None:
    assert [threshold(count) for count in (3, 4, 5, 6, 20, 100)] == [3, 3, 4, 5, 14, 67]
