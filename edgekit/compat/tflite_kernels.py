"""What TFLite's runtimes have: the newest version of each operator, and which types its kernel ran with.

``tables/tflite.json`` is written by ``benchmarks/compat_tables_tflite.py`` from real loads and runs.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from edgekit.compat.fingerprint import Operator

ANSWERS = {"1": True, "0": False, "?": None}


def runtimes() -> tuple[tuple[str, str], ...]:
    """Engine and version of those that were measured; of each engine the oldest first."""
    return tuple((name, version) for name, version in _table()["runtimes"])


def newest(name: str, runtime: int) -> int | None:
    """The newest version of an operator that a runtime (by index) has: 0 for none, None where nobody looked."""
    found = _versions().get(name)
    return None if found is None else found[runtime]


def ran(operator: Operator, runtime: int) -> bool | None:
    """Whether a node of that name and those types ran there; None where it was not tried, or forms differed."""
    key = (operator.name, operator.inputs, operator.outputs, operator.traits)
    return ANSWERS[_nodes().get(key, "?" * len(runtimes()))[runtime]]


def brings(custom: str) -> bool:
    """Whether the runtimes have a custom operator of that name of their own."""
    return custom in _table()["custom"]


@cache
def _versions() -> dict[str, list[int]]:
    return dict(_table()["versions"])


@cache
def _nodes() -> dict[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], str]:
    rows = _table()["nodes"]
    return {(name, tuple(takes), tuple(gives), tuple(traits)): answers for name, takes, gives, traits, answers in rows}


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("edgekit.compat").joinpath("tables/tflite.json").read_text("utf-8"))
    return table
