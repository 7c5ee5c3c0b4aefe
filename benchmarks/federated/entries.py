"""Entries: ours and Flower's functions, each run in a process of its own, one after the other."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit import environments
from edgekit.environments import Environment
from edgekit.errors import ConversionError
from edgekit.passes.child import Child

HERE = Path(__file__).parent
FLOWER = Environment("flower", HERE.parents[1] / "requirements" / "flower.txt", "170 MB to fetch")
OURS = ("fedavg", "fedadam", "median", "trimmed-mean", "krum", "multi-krum", "bulyan")
BESIDE = {
    "fedavg": ("mean", "mean of records"),
    "median": ("median",),
    "trimmed-mean": ("trimmed-mean",),
    "krum": ("krum", "krum of records"),
    "multi-krum": ("multi-krum",),
    "bulyan": ("bulyan",),
}
"""Flower's functions by our strategy; its FedAdam comes with its messages."""


@dataclass(frozen=True)
class Task:
    """Updates in a folder: of how many numbers, how many of their devices may lie, and how long anyone may take."""

    folder: Path
    size: int
    liars: int
    timeout_s: float = 600


@dataclass(frozen=True)
class Row:
    """``whole_s``: with reading the updates. ``bytes``: by how many memory grew at most. Or an ``error``."""

    name: str
    seconds: float = 0.0
    whole_s: float = 0.0
    bytes: float = 0.0
    result: Path | None = None
    error: str = ""


def ours(name: str, task: Task) -> Row:
    return _run(Child("edgekit", str(HERE / "ours_child.py"), timeout_s=task.timeout_s), name, task)


def flower(name: str, task: Task) -> Row:
    """In its environment, which is made where it is missing. Raises: EdgekitError when it cannot be made."""
    python = environments.ensure(FLOWER, _tell)
    row = _run(Child("Flower", str(HERE / "flower_child.py"), python, task.timeout_s), name, task)
    return replace(row, name=f"Flower, {name}")


def _run(child: Child, name: str, task: Task) -> Row:
    result = task.folder / f"{child.name}-{name}.npz"
    order = {"source": str(task.folder), "result": str(result), "tool": name, "size": task.size, "liars": task.liars}
    try:
        answer = child.answer(order)
    except ConversionError as error:
        return Row(name, error=error.message.partition(": ")[2])
    return Row(name, answer["seconds"], answer["whole_s"], answer["bytes"], result)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
