"""What a compatibility check says: an engine, what was found against it, and the verdict."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Answer = Literal["loads", "refused", "unknown"]
Number = tuple[int, int, int]
NUMBER = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Engine:
    """An engine as a device has it: the name it goes by here, and its distribution's version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def number(version: str) -> Number | None:
    """``1.20.1+cu126`` → (1, 20, 1); None for what is no version."""
    found = NUMBER.match(version)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)(.+)")
COMPARED: dict[str, Callable[[Number, Number], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def holds(version: str, versions: str) -> bool:
    """Whether a version lies in a range: PEP 440's ordered comparisons of release numbers, as profiles use them.

    False for a clause of another kind: what cannot be read lets nothing in.
    """
    own = number(version)
    clauses = [CLAUSE.fullmatch(each.replace(" ", "")) for each in versions.split(",") if each.strip()]
    limits = [(each[1], number(each[2])) if each else ("", None) for each in clauses]
    return own is not None and all(limit is not None and COMPARED[sign](own, limit) for sign, limit in limits)


def minor(version: str) -> str:
    """``1.20.1`` → ``1.20``: what a release is known for is taken to hold for its minor."""
    return ".".join(version.split(".")[:2])


@dataclass(frozen=True)
class Finding:
    """One thing that stands against an artifact, or that nobody knows: a clause, and what helps."""

    answer: Answer
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class Verdict:
    """``findings`` are empty for what loads; what refuses it stands before what is unknown."""

    answer: Answer
    findings: tuple[Finding, ...] = ()

    @property
    def reason(self) -> str:
        return self.findings[0].reason if self.findings else ""

    @property
    def fix(self) -> str:
        return self.findings[0].fix if self.findings else ""


def of_findings(findings: Iterable[Finding]) -> Verdict:
    """One refusal refuses, one unknown makes it unknown, else it loads."""
    ordered = tuple(sorted(findings, key=lambda each: each.answer != "refused"))
    return Verdict(ordered[0].answer if ordered else "loads", ordered)
