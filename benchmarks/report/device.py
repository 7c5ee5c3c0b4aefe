"""What a report costs a device, and how true it is: nanoseconds of a call, bytes of a window, error of percentiles.

python -m benchmarks.report.device
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from edgekit.cli.output import print_table
from edgekit_runtime import windows
from edgekit_runtime.histogram import percentile, summed
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.spool import Spool

CALLS, ROUNDS = 20_000, 15
DEVICES, WINDOWS, CALLS_A_WINDOW = 20, 30, 1800
MEDIAN_NS, SPREAD = 8e6, 0.35
SHARES = (0.5, 0.95, 0.99)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = _per_call(Path(folder))
        kept, latencies = _fleet(Path(folder))
    lines = [f"{windows.dump(each)}\n".encode() for each in kept]
    plain, packed = sum(map(len, lines)) / len(lines), len(gzip.compress(b"".join(lines))) / len(lines)
    rows = [("recording a call", f"{record:,.0f} ns"), (f"a window of {CALLS_A_WINDOW} calls", f"{plain:,.0f} bytes")]
    rows += [("the same, packed in a full file", f"{packed:,.0f} bytes")]
    rows += [(f"p{share:.0%}".rstrip("%"), f"{error:.2%} off") for share, error in _errors(kept, latencies).items()]
    print_table(("what", "how much"), rows, title=f"{len(kept)} windows, {latencies.size:,} calls")


def _per_call(folder: Path) -> float:
    """Nanoseconds; the counting, which is done for many at once, is in it."""
    recorder = Recorder(Spool(folder / "cost"), "app", "release")
    spent = [_loop(lambda: recorder.record(1_000_000, 7_000_000, 50_000)) - _loop(lambda: None) for _ in range(ROUNDS)]
    recorder.close()
    return median(spent)


def _loop(call: Callable[[], object]) -> float:
    started = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - started) / CALLS


def _fleet(folder: Path) -> tuple[list[windows.Window], np.ndarray]:
    """Windows of devices, each faster or slower than the others, and the nanoseconds that were recorded in them."""
    draw, took = np.random.default_rng(1), []
    for device in range(DEVICES):
        recorder = Recorder(Spool(folder / "fleet"), "app", f"release-{device}")
        for _ in range(WINDOWS):
            stages = draw.lognormal(np.log(MEDIAN_NS * draw.uniform(0.7, 2)), SPREAD, (CALLS_A_WINDOW, 3)).astype(int)
            for before, infer, after in stages.tolist():
                recorder.record(before, infer, after)
            recorder.flush()
            took.append(stages.sum(axis=1))
        recorder.close()
    return list(Spool(folder / "fleet").windows()), np.concatenate(took)


def _errors(kept: list[windows.Window], latencies: np.ndarray) -> dict[float, float]:
    merged = summed(each.buckets for each in kept)
    exact = np.quantile(latencies, SHARES, method="lower")
    return {share: abs(percentile(merged, share) / true - 1) for share, true in zip(SHARES, exact, strict=True)}


if __name__ == "__main__":
    main()
