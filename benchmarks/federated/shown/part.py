"""Part: what one experiment has to show, as plots over rounds and tables of where they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.federated.shown.course import Course


@dataclass(frozen=True)
class Figure:
    """Accuracy by round: a line for each course, by its name."""

    key: str
    title: str
    told: str
    courses: Mapping[str, Course]


@dataclass(frozen=True)
class Table:
    """The first column has names; ``notes`` stand below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """``told``: how it was made, and what is to be seen."""

    key: str
    title: str
    told: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]


def outcome(course: Course) -> str:
    """The accuracy at the end; of a course whose every round was refused, that."""
    rounds = len(course.accuracies) - 1
    if stands_still(course):
        return "refused"
    refused = f", {len(course.refused)} of {rounds} rounds refused" if course.refused else ""
    return f"{course.last:.2f}{refused}"


def stands_still(course: Course) -> bool:
    """Whether every round was refused."""
    return len(course.refused) == len(course.accuracies) - 1


def why_refused(courses: Iterable[Course]) -> tuple[str, ...]:
    """What was said, each once."""
    return tuple(dict.fromkeys(line for course in courses for line in course.refused))
