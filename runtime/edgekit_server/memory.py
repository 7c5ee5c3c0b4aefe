"""Memory: what a release is going to take and a worker has taken, and whether there is room for more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime import bundle as bundles

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle

ENGINE = 40 << 20
"""What Python, numpy and an engine take in a worker before there is a model."""
TIMES_THE_MODEL = 3
"""What a model takes of whose memory nothing is known: its file, its weights laid out anew, its activations."""
SPARE = 32 << 20
"""What the machine keeps free."""


def predicted(bundle: Bundle) -> int:
    """Bytes for a worker of this release: as its build measured the model, else as its file is large."""
    candidates = bundle.manifest.verdict.get("candidates")
    for each in candidates if isinstance(candidates, list) else ():
        measured = each.get("memory_mib") if isinstance(each, dict) and each.get("chosen") is True else None
        if isinstance(measured, (int, float)) and 0 < measured < 1 << 20:
            return ENGINE + int(measured * (1 << 20))
    return ENGINE + TIMES_THE_MODEL * bundle.layer(bundles.MODEL_TYPE).size


def taken(pid: int) -> int:
    """Bytes of a process that no other one shares, 0 when it has gone."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes that the machine can give to programs (MemAvailable of proc(5)); without bounds where it does not tell."""
    try:
        with open("/proc/meminfo") as file:
            (size,) = (line.split()[1] for line in file if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return 1 << 62
    return int(size) << 10


def fits(need: int, workers: int, ceiling: int) -> bool:
    """Whether there is room for so many bytes more, beside the workers, which have theirs; a ceiling of 0 is none."""
    return need <= available() - SPARE and (not ceiling or workers + need <= ceiling)
