"""A change of the signing key over twenty devices behind real SSH servers, of which half are away when it begins."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgekit import fleet, rotation, signing, simulate
from edgekit.cli.places import DEVICES
from edgekit.fleet import Device
from edgekit.lab import sshd
from edgekit.simulate import Simulated
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import EDGEKIT, document, edgekit, equip, project
from tests.lab.sshd import fingerprint, needs_sshd, running

__all__ = ["project"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_sshd]

TWENTY = tuple(f"pole-{number:02}" for number in range(20))
THERE, LATER, LAST = TWENTY[::2], TWENTY[1:10:2], TWENTY[11::2]
GONE = "gone"


@pytest.fixture
def poles(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Simulated]]:
    """Twenty that are set up, every other one switched off; and one that never comes back."""
    with ExitStack() as held:
        found = {name: held.enter_context(running(name, project / DEVICES)) for name in TWENTY}
        for device in found.values():
            equip(device.home, tmp_path_factory.getbasetemp())
            fleet.add(project, Device(device.name, device.uri, TARGET, ("pole",)))
        for name in (*LATER, *LAST):
            sshd.halt(found[name].folder)
        fleet.add(project, Device(GONE, "ssh://pi@127.0.0.1:1", TARGET))
        yield found


def come_back(poles: dict[str, Simulated], *names: str) -> None:
    for name in names:
        assert simulate.start(name, poles[name].folder.parent).uri == poles[name].uri


def rotate(status: int) -> dict[str, Any]:
    """What it says, and by device how that went: "done", or the error's code."""
    said = document("trust", "rotate", status=status)
    outcomes = {each["device"]: (each["error"] or {"code": "done"})["code"] for each in said["devices"]}
    return {**said, "outcomes": outcomes}


def trusted(*names: str) -> set[tuple[tuple[str, bool], ...]]:
    """What devices know, each key with whether it is taken; one entry where all agree."""
    told = document("trust", "list", *(word for name in names for word in ("--to", name)))["devices"]
    return {tuple(sorted((each["fingerprint"], not each["revoked"]) for each in one["signers"])) for one in told}


def test_half_of_them_are_away_and_come_back_in_two_parts(project: Path, poles: dict[str, Simulated]) -> None:
    old, early = fingerprint(signing.default_key()), make_bundle(project / "early", sequence=1)
    first = rotate(status=1)
    new = first["new"]
    assert (first["old"], first["signs"], first["left"]) == (old, "new", 11)
    assert first["outcomes"] == {name: "done" if name in THERE else "connect" for name in (*TWENTY, GONE)}
    assert fingerprint(signing.default_key()) == new
    swapped = {tuple(sorted([(old, False), (new, True)]))}
    assert trusted(*THERE) == swapped

    come_back(poles, *LATER)
    assert trusted(*LATER) == {((old, True),)}  # they serve, and take what the old key signed
    document("push", early.root, "--to", LATER[0])
    late = make_bundle(project / "late", sequence=2)
    refused = document("push", late.root, "--to", LATER[0], status=1)["devices"][0]["error"]
    assert refused["code"] == "unknown_signer"
    second = rotate(status=1)
    assert (second["new"], second["left"]) == (new, 6)
    assert second["outcomes"] == {name: "done" if name in LATER else "connect" for name in (*LATER, *LAST, GONE)}

    come_back(poles, *LAST)
    edgekit("device", "remove", GONE, "--forget")
    third = rotate(status=0)
    assert (third["new"], third["left"], third["outcomes"]) == (new, 0, dict.fromkeys(LAST, "done"))
    assert trusted(*TWENTY) == swapped
    assert not rotation.FILE.exists()
    assert document("push", late.root, "--to", LATER[0])["devices"][0]["ok"]
    revoked = document("push", early.root, "--to", LAST[0], status=1)["devices"][0]["error"]
    assert revoked["code"] == "revoked_signer"


def test_a_host_that_is_killed_at_random_moments(project: Path, poles: dict[str, Simulated]) -> None:
    """However often, devices get to know one new key, by which the host signs in the end."""
    old, chance, kills = fingerprint(signing.default_key()), random.Random(4), 0
    for attempt in range(12):
        with subprocess.Popen(
            [*EDGEKIT, "trust", "rotate"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as ran:
            try:
                ran.wait(chance.uniform(0.3, 0.7 + attempt / 5))
            except subprocess.TimeoutExpired:
                ran.kill()
                kills += 1
    assert kills >= 3
    come_back(poles, *LATER, *LAST)
    edgekit("device", "remove", GONE, "--forget")
    if rotation.FILE.exists():
        rotate(status=0)
    new = fingerprint(signing.default_key())
    assert trusted(*TWENTY) == {tuple(sorted([(old, False), (new, True)]))}
