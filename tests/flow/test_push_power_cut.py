"""Power cuts during pushes: the card of a device is cut off, and mounted again with what its journal holds.

EDGEKIT_POWER_CUTS=200 make test-slow ARGS="tests/flow/test_push_power_cut.py -s"
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import fleet, simulate
from edgekit.fleet import Device
from edgekit.lab import requirements
from edgekit.simulate import Kind
from tests.lab.bundles import TARGET
from tests.lab.project import copy_of_served, project
from tests.lab.pushes import Attempt, Lab, hold

__all__ = ["project"]  # a fixture
WHY = requirements.lacking(emulated=False)
CUTS = int(os.environ.get("EDGEKIT_POWER_CUTS", "8"))
CARD = Kind(card_mib=256)
PADDING = 2_000_000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120 + 15 * CUTS),
    pytest.mark.skipif(WHY is not None, reason=str(WHY)),
]


@pytest.fixture
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A device on a card with two releases of the digits."""
    state = project / ".edgekit" / "devices"
    try:
        pi = simulate.start("pi", state, CARD)
        fleet.add(project, Device("pi", pi.uri, TARGET))
        copy_of_served(simulate.machine("pi", state).mounted / "home", tmp_path_factory.getbasetemp())
        os.sync()
        yield Lab(project, pi)
    finally:
        simulate.stop("pi", state)


def test_the_old_release_or_the_new_one_and_the_next_push_succeeds(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    first = lab.bundle(PADDING)
    with Attempt(lab, first) as uncut:
        pass
    assert uncut.error is None
    chance, seen, state = random.Random(1), Counter[str](), lab.pi.folder.parent
    for number in range(CUTS):
        before, moment = lab.live(), chance.uniform(0, uncut.seconds * 1.1)
        with Attempt(lab, lab.bundle(PADDING + number)) as attempt:
            time.sleep(moment)
            simulate.machine("pi", state).cut()
            assert simulate.start("pi", state, CARD) == lab.pi
        seen[hold(lab, before, attempt)] += 1
    with capsys.disabled():
        print(f"\n{CUTS} power cuts within {uncut.seconds:.1f} s of a push: {dict(seen)}, no other state")
    assert sum(seen.values()) == CUTS
