"""Learning: rounds beside training in one place, where all devices see much the same and where they do not."""

from __future__ import annotations

from benchmarks.federated.shown.course import HOW, ROUNDS, Terms, centralized, course, honest
from benchmarks.federated.shown.fleet import fleet
from benchmarks.federated.shown.part import Figure, Part, Table
from benchmarks.federated.shown.scenes import EVEN, SPREADS
from edgekit.federated import strategies

TOLD_AT = (0, 1, 2, 5, ROUNDS)


def learning() -> Part:
    """FedAvg on fleets whose devices see ever fewer classes."""
    courses, terms = {"in one place": centralized(fleet(EVEN))}, Terms(strategies.fedavg())
    for name, spread in SPREADS.items():
        devices = fleet(spread)
        courses[f"rounds, {name}"] = course(devices, terms, honest(devices, terms))
    told = (
        f"20 devices with 40 pictures each, seen four times; {ROUNDS} rounds of {HOW['epochs']} epochs on each device. "
        "In one place: as many epochs on what all devices have seen."
    )
    figure = Figure("learning", "Rounds beside training in one place", "Accuracy by round.", courses)
    columns = ("rounds", *map(str, TOLD_AT))
    rows = tuple((name, *(f"{each.accuracies[n]:.2f}" for n in TOLD_AT)) for name, each in courses.items())
    return Part("learning", "Learning", told, (figure,), (Table("Accuracy", columns, rows),))
