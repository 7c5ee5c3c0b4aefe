"""Reports that are pulled over a real sshd and cut off at any byte: nothing is lost, nothing counts twice."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import reports, transports
from edgekit.errors import EdgekitError
from edgekit.store import Store
from edgekit_runtime.spool import Spool
from edgekit_runtime.windows import Window
from tests.lab.project import equip, project, until
from tests.lab.sshd import needs_sshd, running
from tests.lab.wire import Wire, through, wired

__all__ = ["project"]  # a fixture
pytestmark = [needs_sshd, pytest.mark.slow, pytest.mark.timeout(300)]

WINDOWS = 1200
NOW = time.time() - 3 * 86400
WINDOW = Window("digits", "sha256:" + "a" * 64, "0f" * 16, 0, NOW, NOW + 60, {690: 3})


def fill(home: Path) -> int:
    """About three parts, which no compression makes small; how many calls that is."""
    spool, chance, calls = Spool(home / "reports/digits"), random.Random(1), 0
    for seq in range(WINDOWS):
        start = NOW + 60 * seq
        buckets = {index: chance.randrange(1, 1 << 30) for index in range(600, 900)}
        spool.append(replace(WINDOW, seq=seq, start_s=start, end_s=start + 60, buckets=buckets))
        calls += sum(buckets.values())
    return calls


def cut_when(wire: Wire, down: int, done: threading.Event) -> None:
    """Close every connection once so many more bytes have come from the device."""
    until(lambda: wire.down >= down or done.is_set(), 60)
    wire.cut()


def test_four_cuts_and_then_all_of_it(project: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    chance = random.Random(3)
    with (
        running("pi", tmp_path / "devices") as device,
        wired(device) as wire,
        Store(f"sqlite:///{tmp_path}/s.db") as store,
    ):
        equip(device.home, tmp_path_factory.getbasetemp())
        calls = fill(device.home)
        wire.rate = 4e6  # slow enough to be cut in time
        new, broken, parts = 0, 0, []
        for _ in range(4):
            done = threading.Event()
            down = wire.down + chance.randrange(10_000, 4_000_000)
            cutter = threading.Thread(target=cut_when, args=(wire, down, done))
            cutter.start()
            try:
                with transports.connect(through(device, wire, tmp_path)) as link:
                    new += reports.pull(link, "pi", store)
            except (EdgekitError, OSError) as error:
                broken += 1
                assert "\n" not in str(error)
            finally:
                done.set()
                cutter.join()
            parts.append(store.have("pi").get(WINDOW.session, -1) + 1)
        with transports.connect(device.uri) as link:
            new = reports.pull(link, "pi", store)
            again = reports.pull(link, "pi", store)
        print(f"{broken} of 4 were cut; had after each: {parts}; then {new} more")
        assert broken >= 2
        assert parts == sorted(parts)
        assert again == 0
        [summary] = store.summaries()
        assert summary.count == calls
        assert store.have("pi") == {WINDOW.session: WINDOWS - 1}
