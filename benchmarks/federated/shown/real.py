"""Real: rounds of twenty runtimes, as `edgekit round start` runs them, beside the same rounds by the library alone."""

from __future__ import annotations

import sys

from benchmarks.federated.shown.course import HOW, LIARS, Course, Terms, course, honest
from benchmarks.federated.shown.fleet import fleet
from benchmarks.federated.shown.lab import OVER_SSH, Lab, lab
from benchmarks.federated.shown.lies import LIES
from benchmarks.federated.shown.part import Figure, Part, Table
from benchmarks.federated.shown.scenes import CLASSES, UNEVEN, scenes, shares
from edgekit.federated import strategies
from edgekit.lab import requirements

ROUNDS, FEW = 5, 3
NAMES = sorted(shares(UNEVEN))
BENT = NAMES[OVER_SSH : OVER_SSH + LIARS]
"""Those that lie, or leave."""
FEDAVG, ROBUST = ("--strategy", "fedavg"), ("--strategy", "multi-krum", "--option", f"liars={LIARS}")


def real() -> Part:
    """Takes minutes: every device is asked in every round, each time by a process of its own."""
    why = requirements.lacking(emulated=True)
    if why:
        print(f"goes without the emulated aarch64 board: {why}", file=sys.stderr)
    with lab(NAMES, None if why else NAMES[-1]) as made:
        learned, lied = _learning(made), _lying(made)
        learned |= _leaving(made)
    figure = Figure("real", "Rounds of runtimes", "Accuracy by round.", learned)
    rows = [(name, f"{each.accuracies[0]:.2f}", f"{each.last:.2f}") for name, each in learned.items()]
    tables = Table("Accuracy", ("", "as shipped", "at the end"), tuple(rows)), _table(lied)
    return Part("real", "Runtimes", told(emulated=not why), (figure,), tables)


def told(*, emulated: bool) -> str:
    """What the devices are, and what they do."""
    board = ", and one on an emulated Raspberry Pi 5, whose bundle is its own" if emulated else ""
    return (
        f"{len(NAMES)} runtimes on this machine, {OVER_SSH} of them behind SSH servers of their own{board}. Each serves"
        " a bundle that was built of the float ResNet-8, and learns from what it has kept; `edgekit round start` asks,"
        f" checks and combines. {LIARS} lie, and sign that with their keys; or note the next class for all they see."
    )


def _learning(made: Lab) -> dict[str, Course]:
    terms, of = Terms(strategies.fedavg(), rounds=ROUNDS), fleet(UNEVEN)
    for name, places in shares(UNEVEN).items():
        made.keep(name, places, scenes().labels)
    return {"by the library": course(of, terms, honest(of, terms)), "20 runtimes": _course(made, ROUNDS, *FEDAVG)}


def _lying(made: Lab) -> dict[str, tuple[Course, Course]]:
    """By lie, FedAvg's course and Multi-Krum's."""
    found = {}
    for lie in LIES:
        found[lie] = _bent(made, lie, FEDAVG), _bent(made, lie, ROBUST)
    for name in BENT:
        made.bend(name, "")
        made.keep(name, shares(UNEVEN)[name], (scenes().labels + 1) % CLASSES)
    return {**found, "wrong labels": (_course(made, FEW, *FEDAVG), _course(made, FEW, *ROBUST))}


def _bent(made: Lab, lie: str, strategy: tuple[str, ...]) -> Course:
    for name in BENT:
        made.bend(name, lie)
    return _course(made, FEW, *strategy)


def _leaving(made: Lab) -> dict[str, Course]:
    """Two are off, two die while they train, two do not come to an end: the round goes on without the six."""
    for name in BENT:
        made.keep(name, shares(UNEVEN)[name], scenes().labels)
    for name in NAMES[:2]:
        made.switch_off(name)
    for name, lie in zip(BENT, ("dies", "dies", "sleeps", "sleeps"), strict=True):
        made.bend(name, lie)
    return {"6 of 20 drop out": _course(made, FEW, *FEDAVG, "--quorum", "70%")}


def _course(made: Lab, rounds: int, *words: str) -> Course:
    """From the model on; of ``turned_away`` it is told how many updates the host has refused."""
    settings = [word for name, value in HOW.items() for word in ("--set", f"{name}={value}")]
    asked = ["--rounds", str(rounds), "--from", "model", "--quorum", "100%"]
    told = made.edgekit("round", "start", *asked, *settings, *words)["rounds"]
    refused = sum(device["state"] == "refused" for each in told for device in each["devices"])
    accuracies = (told[0]["result"]["before"], *(each["result"]["accuracy"] for each in told))
    return Course(accuracies, turned_away=refused)


def _table(lied: dict[str, tuple[Course, Course]]) -> Table:
    rows = tuple(
        (lie, f"{mean.last:.2f}", f"{robust.last:.2f}", f"{mean.turned_away} of {LIARS * FEW}")
        for lie, (mean, robust) in lied.items()
    )
    columns = ("", "fedavg", "multi-krum", "of their updates refused by the checks")
    return Table(f"Accuracy after {FEW} rounds, {LIARS} of 20 lie", columns, rows)
