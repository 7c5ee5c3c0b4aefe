"""The soak: a server under mixed traffic for an hour, and what becomes of its memory and its descriptors.

python -m benchmarks.serve.soak [--minutes M]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from benchmarks.serve import mixture, ours, task, watch
from benchmarks.serve.connection import questions
from benchmarks.serve.entries import Bench
from benchmarks.serve.promises import Promise
from benchmarks.serve.server import free_ports, running
from benchmarks.serve.wire import V2_BINARY
from edgekit.cli.output import print_table

TURN_S, PAUSE_S = 4.0, 0.2
"""Right questions in each turn, and what the server gets to see that clients have gone."""
WARM_UP, ENDS = 1 / 2, 1 / 10
"""Parts of the looks: those that do not count, as a heap grows for some hundred turns, and those by which the
descriptors are compared.
"""
MOST_MIB_H = 1.0
PROCESSES = ("front", "worker")


@dataclass(frozen=True)
class Look:
    """MiB and descriptors of each process, some hours after the start."""

    hours: float
    pids: tuple[int, ...]
    mib: tuple[float, ...]
    files: tuple[int, ...]


@dataclass(frozen=True)
class Trend:
    """MiB an hour by least squares, and twice its standard error."""

    slope: float
    within: float

    def __str__(self) -> str:
        return f"{self.slope:+.2f} ± {self.within:.2f}"


@dataclass
class Soak:
    """``done``: how many requests of each kind."""

    looks: list[Look] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    @property
    def counted(self) -> list[Look]:
        return self.looks[int(WARM_UP * len(self.looks)) :]

    @property
    def ends(self) -> tuple[list[Look], list[Look]]:
        """The first and the last of those that count."""
        number = max(1, int(ENDS * len(self.counted)))
        return self.counted[:number], self.counted[-number:]


def trend(hours: Sequence[float], mib: Sequence[float]) -> Trend:
    """Of at least four looks."""
    (slope, _), spread = np.polyfit(hours, mib, 1, cov=True)
    return Trend(float(slope), 2 * float(np.sqrt(spread[0][0])))


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
def main(minutes: float) -> None:
    """One server of one model under right, wrong and broken requests in turn."""
    with tempfile.TemporaryDirectory(prefix="edgekit-soak-") as name:
        made = task.make(Path(name))
        bundle, asked = ours.write_bundle(made, Path(name)), questions(made, V2_BINARY)
        bench = Bench(made, Path(name), free_ports(), print)
        asking, core = (bench.port, V2_BINARY, asked[0]), min(os.sched_getaffinity(0))
        with running(ours.entry(bundle).command(bench), core, asking, bench.folder / "log") as server:
            soak, started = Soak(), time.monotonic()
            while time.monotonic() < started + 60 * minutes:
                soak.done += mixture.turn(bench.port, asked, TURN_S)
                time.sleep(PAUSE_S)
                soak.looks.append(look(watch.tree(server.pid), time.monotonic() - started))
    show(soak)


def look(pids: Sequence[int], seconds: float) -> Look:
    files = tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
    return Look(seconds / 3600, tuple(pids), tuple(map(watch.own, pids)), files)


def show(soak: Soak) -> None:
    (first, *_), (*_, last) = soak.ends
    rows = []
    for number, name in enumerate(PROCESSES):
        mib, files = ([f"{getattr(each, key)[number]:.5g}" for each in (first, last)] for key in ("mib", "files"))
        rows.append((name, " → ".join(mib), str(_trend(soak, number)), " → ".join(files)))
    told = ", ".join(f"{count:,} {kind}" for kind, count in soak.done.items())
    print_table(("process", "MiB", "MiB/h", "descriptors"), rows, f"{last.hours * 60:.0f} min: {told}")
    for each in promises(soak):
        print(f"{'yes' if each.kept else 'NO '}  {each.name}: {each.told}")


def promises(soak: Soak) -> list[Promise]:
    """Of minutes nothing can be promised: what the front's heap keeps and gives back is more than that."""
    both, (first, last) = _trend(soak, slice(None)), soak.ends
    before, after = (min(sum(each.files) for each in looks) for looks in (first, last))  # some see clients leaving
    pids = {each.pids for each in soak.looks}
    return [
        Promise(
            f"memory grows by less than {MOST_MIB_H:g} MiB an hour",
            both.slope + both.within < MOST_MIB_H,
            f"{both} MiB/h",
        ),
        Promise("no descriptor is lost", after <= before, f"{before} → {after}"),
        Promise("no process is lost", len(pids) == 1, f"{len(pids)} set of processes"),
    ]


def _trend(soak: Soak, which: int | slice) -> Trend:
    return trend([each.hours for each in soak.counted], [float(np.sum(each.mib[which])) for each in soak.counted])


if __name__ == "__main__":
    main()
