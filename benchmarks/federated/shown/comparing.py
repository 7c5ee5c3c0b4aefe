"""Comparing: every strategy on the same fleets, all of whose devices are honest."""

from __future__ import annotations

from benchmarks.federated.shown.course import CLIP, LIARS, Course, Terms, course, honest
from benchmarks.federated.shown.fleet import fleet
from benchmarks.federated.shown.part import Figure, Part, Table, outcome
from benchmarks.federated.shown.scenes import SPREADS
from edgekit.federated import strategies

DRAWN = ("fedavg", "median", "trimmed-mean", "krum", "multi-krum", "bulyan")
"""As many lines as one can tell apart; the other three are means as well."""


def comparing() -> Part:
    found = {name: _courses(spread) for name, spread in SPREADS.items()}
    figures = tuple(
        Figure(f"strategies-{n}", f"Classes {name}", "Accuracy by round.", {key: courses[key] for key in DRAWN})
        for n, (name, courses) in enumerate(found.items())
    )
    rows = tuple((each.name, *(outcome(column[each.name]) for column in found.values())) for each in _every())
    told = f"All 20 devices are honest; robust strategies are told that {LIARS} may lie."
    return Part("strategies", "Strategies", told, figures, (Table("Accuracy at the end", ("", *SPREADS), rows),))


def _courses(spread: float) -> dict[str, Course]:
    devices = fleet(spread)
    return {each.name: course(devices, each, honest(devices, each)) for each in _every()}


def _every() -> list[Terms]:
    means = [strategies.fedavg(), strategies.fedprox(), strategies.fedadam(), strategies.fedyogi()]
    others = [Terms(each) for each in (*means[1:], *(make(LIARS) for make in strategies.ROBUST))]
    return [Terms(means[0]), Terms(means[0], CLIP), *others]
