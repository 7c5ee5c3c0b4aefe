"""One build by edgekit, in a process of its own as the others: a task of ``edgekit.passes.child``.

The answer has the ``seconds`` of the build, those of them ``within`` the converters and quantizers that it calls, those
of its ``stages``, and what came of it; the model that it chose is written to ``result``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.build import tasks
from edgekit import build, passes, target
from edgekit.budget import Budget
from edgekit.model import Model, open_model
from edgekit.passes import Context, Pass
from edgekit.precision import Precision


@dataclass
class Clock:
    """Seconds spent within passes; one that calls another counts once."""

    seconds: float = 0.0
    depth: int = 0

    def timed(self, step: Pass) -> Pass:
        def run(model: Model, context: Context) -> Model:
            started, self.depth = time.perf_counter(), self.depth + 1
            try:
                return step.run(model, context)
            finally:
                self.depth -= 1
                self.seconds += 0 if self.depth else time.perf_counter() - started

        return replace(step, run=run, before=tuple(map(self.timed, step.before)))


@dataclass
class Stages:
    """Seconds by what a build says that it is doing."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    _now: tuple[str, float] = ("", 0.0)

    def begin(self, line: str) -> None:
        before, since = self._now
        now = time.perf_counter()
        if before:
            self.seconds[before] = self.seconds.get(before, 0.0) + now - since
        self._now = line.partition(": ")[2], now


def convert(order: dict[str, Any]) -> dict[str, Any]:
    made = tasks.made(Path(order["made"]))
    task = next(each for each in (*tasks.PRETRAINED, *made) if each.name == order["task"])
    profile = target.load(order["target"])
    engines = tuple(each for each in profile.engines if each.format in order["formats"])
    model = open_model(Path(order["source"]))
    wanted = replace(
        task.order(Path(order["data"])),
        preprocess=dict(zip((spec.name for spec in model.inputs), task.preprocess.values(), strict=False))
        if model.inputs
        else task.preprocess,
        precisions=tuple(map(Precision, order["precisions"])),
        budget=msgspec.convert(order["budget"], Budget),
    )
    clock, all_passes = Clock(), passes.all_passes()
    build.all_passes = lambda: tuple(map(clock.timed, all_passes))  # type: ignore[attr-defined]
    stages = Stages()
    outcome = build.build(model, msgspec.structs.replace(profile, engines=engines), wanted, stages.begin)
    seconds = time.perf_counter() - stages.started
    stages.begin("")
    if outcome.contents:
        Path(order["result"]).write_bytes(outcome.contents.model)
    return {
        "seconds": seconds,
        "within": clock.seconds,
        "stages": stages.seconds,
        "measured": [each.as_dict() for each in outcome.measured],
        "verdict": outcome.verdict.as_dict(),
        "format": outcome.contents.manifest.format if outcome.contents else None,
        "interface": outcome.contents.manifest.interface.as_dict() if outcome.contents else None,
    }
