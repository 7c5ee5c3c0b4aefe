"""What watching quality costs of an inference: a call that is not looked at, a look, and how often there is one.

    python -m benchmarks.report.quality [BUNDLE]…

Without BUNDLE: the example's model, built for this machine. "of inference": by how much a call that is not looked at
takes longer than one of a function that does nothing, and its share of a look. They take turns, each after an inference
that leaves nothing of them in the processor's caches; "in a loop" is the same with the caches warm.
"""

from __future__ import annotations

import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.predict import build
from edgekit.cli.output import print_table
from edgekit_runtime import bundle as bundles
from edgekit_runtime import session
from edgekit_watch import quality
from edgekit_watch.quality import Quality

CALLS, ROUNDS = 2000, 5
LONG_NS = 1 << 50
COLUMNS = ("model", "inference", "with quality", "in a loop", "a look", "a look every", "of inference")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(each) for each in sys.argv[1:]] or [build(Path(folder))]
        print_table(COLUMNS, [_row(place) for place in places], title="quality, ns per inference")


def _row(place: Path) -> tuple[str, ...]:
    opened = bundles.open_layout(place)[0]
    watch = quality.of_bundle(opened)
    if watch is None:
        sys.exit(f"{place}: has no calibration profile; build it again")
    with session.of_bundle(opened) as loaded:
        inputs = loaded.samples()[0]
        feeds, outputs = loaded.interface.feeds(inputs), loaded.predict(inputs)

        def call(look: Callable[..., object]) -> None:
            given = loaded.predict(inputs)
            look(inputs, feeds, given, 0)

        watch._left = LONG_NS
        without, along = _paired(lambda: call(_nothing), lambda: call(watch.look))
        passed, look = _alone(watch, (inputs, feeds, outputs))
        every = max(1.0, look / (quality.SHARE * without))
    share = (along - without + look / every) / without
    whole = without * (1 + share)
    figures = (
        f"{without:,.0f}",
        f"{whole:,.0f}",
        f"{passed:.0f}",
        f"{look:,.0f}",
        f"{every:,.0f} calls",
        f"{share:.2%}",
    )
    return (f"{opened.manifest.app}, {opened.manifest.precision}", *figures)


def _nothing(*_: object) -> None:
    """As cheap as a look that does nothing."""


def _paired(*calls: Callable[[], object]) -> list[float]:
    """The tenth of each that was quickest, for others use this machine, too; they take turns."""
    times: list[list[int]] = [[] for _ in calls]
    for number in range(CALLS * ROUNDS):
        for call, kept in list(zip(calls, times, strict=True))[:: 1 if number % 2 else -1]:
            started = time.perf_counter_ns()
            call()
            kept.append(time.perf_counter_ns() - started)
    return [quantiles(each, n=10)[0] for each in times]


def _alone(watch: Quality, given: tuple[Any, Any, Any]) -> tuple[float, float]:
    """A call that is not looked at, and a look; the least of some rounds."""
    names = {"watch": watch, "inputs": given[0], "feeds": given[1], "outputs": given[2], "ns": LONG_NS}
    call = "watch.look(inputs, feeds, outputs, ns)"
    watch._left = LONG_NS
    calls = min(timeit.repeat(call, globals=names, number=CALLS, repeat=ROUNDS))
    looks = min(timeit.repeat(f"watch._left = 1; {call}", globals=names, number=CALLS, repeat=ROUNDS))
    return calls / CALLS * 1e9, looks / CALLS * 1e9


if __name__ == "__main__":
    main()
