"""One aggregation by edgekit of updates in files, as a round does it: a task of ``edgekit.passes.child``.

The order and the answer are those of ``flower_child``; but ``whole_s`` is also with checking each update.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.federated import files
from benchmarks.federated.flower_child import memory
from edgekit.federated import strategies
from edgekit.federated.checks import Limits, reasons
from edgekit_train.update import Update, Weights, parse

LIMITS = Limits(norm=1e6, examples=1 << 20)


def convert(order: dict[str, Any]) -> dict[str, float]:
    robust = {make(1).name for make in strategies.ROBUST}
    options = {"liars": order["liars"]} if order["tool"] in robust else {}
    strategy, base = strategies.named(order["tool"], options), files.base(order["size"])
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    clock = Clock()
    state = strategy.aggregate(strategy.init(base), clock.timed(sound(Path(order["source"]), base)))
    whole_s = time.perf_counter() - started
    grown = memory("VmHWM") - before
    np.savez(order["result"], *(state.weights[name] for name in sorted(state.weights)))
    return {"seconds": whole_s - clock.seconds, "whole_s": whole_s, "bytes": grown}


class Clock:
    """Seconds spent on what comes before the strategy has an update."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, updates: Iterator[Update]) -> Iterator[Update]:
        while True:
            started = time.perf_counter()
            update = next(updates, None)
            self.seconds += time.perf_counter() - started
            if update is None:
                return
            yield update


def sound(folder: Path, base: Weights) -> Iterator[Update]:
    for path in folder.glob("*.safetensors"):
        update = parse(path.read_bytes(), 1 << 30)
        if not reasons(update, base, LIMITS):
            yield update
