from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import selector
from edgekit.errors import ConfigError
from edgekit.fleet import Device

FLEET = (
    Device("kitchen", "ssh://a", "pi", ("site=berlin", "lab")),
    Device("gate", "ssh://b", "raspberry-pi-5", ("site=berlin",)),
    Device("pole-1", "ssh://c", "jetson", ("site=paris",)),
    Device("pole-2", "ssh://d", "jetson-orin", ("site=paris", "lab")),
)
NAMES = [device.name for device in FLEET]


def names(*selectors: str) -> list[str]:
    return [device.name for device in selector.union(FLEET, selectors)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kitchen", ["kitchen"]),
        ("pole-*", ["pole-1", "pole-2"]),
        ("site=berlin", ["kitchen", "gate"]),
        ("site=*", NAMES),
        ("lab", ["kitchen", "pole-2"]),
        ("lab,site=paris", ["pole-2"]),
        ("target=pi", ["kitchen", "gate"]),
        ("target=jetson-orin", ["pole-1", "pole-2"]),
        ("site=berlin,target=pi,!lab", ["gate"]),
        ("!lab", ["gate", "pole-1"]),
        ("all", NAMES),
        ("all,!kitchen", NAMES[1:]),
    ],
)
def test_who_is_meant(text: str, found: list[str]) -> None:
    assert names(text) == found


def test_several_are_or_in_the_order_asked_for() -> None:
    assert names("pole-2", "lab", "kitchen", "gate") == ["pole-2", "kitchen", "gate"]
    assert names("gate", "all") == ["gate", "kitchen", "pole-1", "pole-2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kichen", "no device 'kichen' in fleet.toml — did you mean 'kitchen'?"),
        ("x", "no device 'x' in fleet.toml — it has kitchen, gate, pole-1, pole-2, lab"),
        ("!x", "no device 'x' in fleet.toml — it has kitchen, gate, pole-1, pole-2, lab"),
        ("site=x", "no device 'site=x' in fleet.toml — it has site=berlin, site=paris"),
        ("site=belrin", "no device 'site=belrin' in fleet.toml — did you mean 'site=berlin'?"),
        ("target=q", "no device 'target=q' in fleet.toml — it has target=jetson-orin, target=raspberry-pi-5"),
        ("rack=7", "no device 'rack=7' in fleet.toml — it has no such tag"),
        ("lab,,gate", "no device '' in fleet.toml — it has kitchen, gate, pole-1, pole-2, lab"),
        ("kitchen,gate", "no device is all of 'kitchen,gate' — a comma means and: repeat the option or word for or"),
    ],
)
def test_who_is_not_there(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names(text)
    assert str(caught.value) == told


def test_a_large_fleet_is_not_listed_whole() -> None:
    many = [Device(f"pole-{number:03}", "ssh://x", "pi") for number in range(500)]
    with pytest.raises(ConfigError, match="pole-011 and 488 more"):
        selector.select(many, "x")


@given(st.sets(st.sampled_from(["site=berlin", "lab", "target=pi", "pole-*", "all"]), min_size=1).map(sorted))
def test_the_order_of_terms_does_not_matter(terms: list[str]) -> None:
    def meant(text: str) -> object:
        try:
            return selector.select(FLEET, text)
        except ConfigError:
            return ()

    assert meant(",".join(terms)) == meant(",".join(reversed(terms)))
