"""What ``Session.predict`` costs over the bare engine call, with and without the latency recorder.

    python benchmarks/predict.py [BUNDLE]

Each round calls the three in turn, so that what disturbs the machine disturbs all alike; medians of all rounds.
Without BUNDLE, the example's model is built for this machine first.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgekit.cli.output import print_table
from edgekit_runtime import bundle as bundles
from edgekit_runtime import golden, session
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.spool import Spool

ROUNDS = 5000
WARM_UP = 200
DIGITS = Path(__file__).parent.parent / "examples" / "digits"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else build(Path(folder))
        opened = bundles.open_layout(place)[0]
        inputs = golden.parse(opened.read(opened.layer(bundles.GOLDEN_TYPE)))[0].inputs
        recorder = Recorder(Spool(Path(folder) / "spool"), opened.manifest.app, opened.digest)
        with session.of_bundle(opened) as plain, session.of_bundle(opened, recorder) as recorded:
            feeds = plain.interface.feeds(inputs)
            names = ("bare engine", "predict", "predict, recorded")
            times = measure(
                [lambda: plain.engine.run(feeds), lambda: plain.predict(inputs), lambda: recorded.predict(inputs)]
            )
    rows = [(n, f"{t:.2f}", f"{t - times[0]:+.2f}", f"{t / times[0]:.3f}") for n, t in zip(names, times, strict=True)]
    print_table(
        ("call", "median µs", "over bare µs", "ratio"), rows, title=f"{opened.manifest.app}, {plain.engine.name}"
    )


def measure(calls: list[Callable[[], object]]) -> list[float]:
    """Median microseconds of each call; they take turns."""
    times: list[list[int]] = [[] for _ in calls]
    for number in range(ROUNDS + WARM_UP):
        for call, kept in zip(calls, times, strict=True):
            started = time.perf_counter_ns()
            call()
            elapsed = time.perf_counter_ns() - started
            if number >= WARM_UP:
                kept.append(elapsed)
    return [float(np.median(kept)) / 1e3 for kept in times]


def build(folder: Path) -> Path:
    """The example's bundle for this machine."""
    data = ["--calibration", str(DIGITS / "calibration.npz"), "--evaluation", str(DIGITS / "evaluation.npz")]
    target = ["--target", f"generic-{platform.machine().replace('_', '-')}", "--output", str(folder / "bundle")]
    command = [sys.executable, "-m", "edgekit", "build", str(DIGITS / "digits.onnx"), *data, *target]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "bundle"


if __name__ == "__main__":
    main()
