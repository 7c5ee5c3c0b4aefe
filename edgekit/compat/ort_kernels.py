"""What onnxruntime's releases have: the newest models that each loads, and its kernels on the CPU.

``tables/onnxruntime.json`` is written by ``benchmarks/compat_tables.py`` from the releases themselves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from edgekit.compat.fingerprint import ABSENT, UNKNOWN, Operator

CONTRIB = "com.microsoft"
DOMAINS = ("", "ai.onnx.ml", CONTRIB)
"""The operator sets that the table covers; operators of others come with libraries of their own."""


@dataclass(frozen=True)
class Release:
    """``opset``, ``ml_opset`` and ``ir_version`` are the newest that it loads."""

    version: str
    opset: int
    ml_opset: int
    ir_version: int


@dataclass(frozen=True)
class Kernel:
    """Types by the places that share them, of inputs from 0 up, of outputs from -1 down; releases by index."""

    spans: tuple[tuple[int, int], ...]
    types: tuple[tuple[tuple[int, ...], frozenset[str]], ...]

    def within(self, release: int) -> bool:
        return any(first <= release <= last for first, last in self.spans)

    def takes(self, operator: Operator) -> bool | None:
        """None where a type that matters is unknown."""
        found = [_agrees(operator, places, allowed) for places, allowed in self.types]
        return False if False in found else None if None in found else True


def _agrees(operator: Operator, places: Sequence[int], allowed: frozenset[str]) -> bool | None:
    used = [kind for place in places if (kind := _type(operator, place)) != ABSENT]
    if any(kind not in allowed for kind in used if kind != UNKNOWN):
        return False
    return None if used and all(kind == UNKNOWN for kind in used) else True


def _type(operator: Operator, place: int) -> str:
    row, at = (operator.inputs, place) if place >= 0 else (operator.outputs, ~place)
    return row[at] if at < len(row) else ABSENT


def releases() -> tuple[Release, ...]:
    """Those that the table covers, the oldest first."""
    return tuple(Release(**each) for each in _table()["releases"])


def has(operator: Operator, release: int) -> bool | None:
    """Whether that release has a kernel for the operator with its types; None where a type is unknown."""
    found = {kernel.takes(operator) for kernel in _kernels(operator) if kernel.within(release)}
    return True if True in found else None if None in found else False


def opens(operator: Operator, release: int) -> bool:
    """Whether that release takes the operator apart by its definition where it has no kernel."""
    spans = _opened().get((operator.name, operator.version), [])
    return not operator.domain and any(first <= release <= last for first, last in spans)


@cache
def _opened() -> dict[tuple[str, int], list[tuple[int, int]]]:
    return {(name, version): spans for name, version, spans in _table()["opened"]}


@cache
def _by_operator() -> dict[tuple[str, str, int], list[Kernel]]:
    sets = [frozenset(each) for each in _table()["types"]]
    found: dict[tuple[str, str, int], list[Kernel]] = {}
    for domain, name, version, spans, types in _table()["kernels"]:
        kernel = Kernel(
            tuple((first, last) for first, last in spans), tuple((tuple(places), sets[at]) for places, at in types)
        )
        found.setdefault((domain, name, version), []).append(kernel)
    return found


def _kernels(operator: Operator) -> list[Kernel]:
    return _by_operator().get((operator.domain, operator.name, operator.version), [])


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("edgekit.compat").joinpath("tables/onnxruntime.json").read_text("utf-8"))
    return table


@cache
def _contributed() -> dict[str, tuple[list[str], list[str]]]:
    return {name: (inputs, outputs) for name, inputs, outputs in _table()["contrib"]}


def contributed(name: str) -> tuple[list[str], list[str]]:
    """The types, or the type parameters, of the inputs and outputs of an operator of com.microsoft."""
    return _contributed().get(name, ([], []))
