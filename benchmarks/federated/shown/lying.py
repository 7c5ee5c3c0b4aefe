"""Lying: what is left of learning when 4, 8 or 9 of 20 devices lie in every round, by strategy."""

from __future__ import annotations

from benchmarks.federated.shown.course import CLIP, Course, Terms, course, honest
from benchmarks.federated.shown.fleet import Fleet, fleet
from benchmarks.federated.shown.liars import Lying
from benchmarks.federated.shown.lies import LIES, Lie
from benchmarks.federated.shown.part import Figure, Part, Table, outcome, stands_still, why_refused
from benchmarks.federated.shown.scenes import UNEVEN
from edgekit.federated import strategies
from edgekit_train.update import MOST_COUNTED

COUNTS = (4, 8, 9)
BOAST = "sign flip of 100,000 examples"
"""As many as a device is believed."""
WAYS: dict[str, tuple[Lie, int | None]] = {
    **{name: (lie, None) for name, lie in LIES.items()},
    BOAST: (LIES["sign flip"], MOST_COUNTED),
}
"""What liars send, and of how many examples they say it is."""
DRAWN = ("sign flip ×10", "sign flip", "noise", "stale", BOAST)
"""What passes the checks where nothing is clipped, so that a strategy has to face it."""


def lying() -> Part:
    devices = fleet(UNEVEN)
    found = {(count, lie): _courses(devices, lie, count) for count in COUNTS for lie in WAYS}
    told = (
        "The first devices lie in every round, and robust strategies know how many may. The classes are uneven. The "
        "checks refuse NaN and wrong shapes; with --clip also what is longer, without it only what is ten times as "
        "long as all weights together."
    )
    figures = tuple(_figure(found[count, lie], count, lie) for count in COUNTS for lie in DRAWN)
    return Part("liars", "Liars", told, figures, tuple(_table(found, count) for count in COUNTS))


def _courses(devices: Fleet, lie: str, count: int) -> dict[str, Course]:
    what, examples = WAYS[lie]
    return {
        each.name: course(devices, each, Lying(honest(devices, each), what, count, examples)) for each in _chosen(count)
    }


def _chosen(liars: int) -> list[Terms]:
    means = Terms(strategies.fedavg()), Terms(strategies.fedavg(), CLIP)
    return [*means, *(Terms(make(liars)) for make in strategies.ROBUST)]


def _figure(courses: dict[str, Course], count: int, lie: str) -> Figure:
    drawn = {name: each for name, each in courses.items() if not stands_still(each)}
    without = ", ".join(name for name in courses if name not in drawn)
    told = f"Accuracy by round.{f' Refused every round: {without}.' if without else ''}"
    return Figure(f"liars-{count}-{DRAWN.index(lie)}", f"{count} of 20: {lie}", told, drawn)


def _table(found: dict[tuple[int, str], dict[str, Course]], count: int) -> Table:
    of = [found[count, lie] for lie in WAYS]
    rows = tuple((each.name, *(outcome(courses[each.name]) for courses in of)) for each in _chosen(count))
    notes = why_refused(each for courses in of for each in courses.values())
    return Table(f"Accuracy, {count} of 20 lie", ("", *WAYS), rows, notes)
