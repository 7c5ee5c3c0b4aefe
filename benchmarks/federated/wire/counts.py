"""Counts: bytes to a device and from it, what they were spent on, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COLUMNS = (
    "",
    "to the device",
    "of it the task",
    "from the device",
    "of it the update",
    "all the rest",
    "from it, of float32",
    "both ways, of float32",
)
WAYS = ("", "to the device", "from the device")
PLAIN = "float32"
"""The form of an update that nothing was asked for."""


@dataclass(frozen=True)
class Counts:
    """Bytes ``up``, to the device, and ``down``, from it; means have fractions."""

    up: float = 0.0
    down: float = 0.0

    @property
    def both(self) -> float:
        return self.up + self.down

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.up + other.up, self.down + other.down)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.up - other.up, self.down - other.down)

    def over(self, times: int) -> Counts:
        return Counts(self.up / times, self.down / times)


def total(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


@dataclass(frozen=True)
class Sent:
    """For one device in one round: all that went over, and of it the files: up the task, down the update."""

    all: Counts
    files: Counts

    @property
    def rest(self) -> Counts:
        """SSH, its handshake, and what is asked and answered in words."""
        return self.all - self.files


def rows(found: Mapping[str, Sent]) -> list[tuple[str, ...]]:
    """One for each form, by COLUMNS; those of ``PLAIN``, which is among them, are what the others are parts of."""
    plain = found[PLAIN].all
    return [(name, *_told(sent), *_parts(sent.all, plain)) for name, sent in found.items()]


def ways(found: Mapping[str, Counts]) -> list[tuple[str, ...]]:
    """One for each, by WAYS."""
    return [(name, number(each.up), number(each.down)) for name, each in found.items()]


def number(count: float) -> str:
    return f"{count:,.0f}"


def _told(sent: Sent) -> tuple[str, ...]:
    each = sent.all.up, sent.files.up, sent.all.down, sent.files.down, sent.rest.both
    return tuple(number(count) for count in each)


def _parts(counts: Counts, plain: Counts) -> tuple[str, str]:
    return f"{counts.down / plain.down:.3f}", f"{counts.both / plain.both:.3f}"
