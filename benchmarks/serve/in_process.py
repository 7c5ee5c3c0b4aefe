"""In a program of one's own, without a server: the bare engine, and a session of edgekit on it, taking turns.

Run as a module, with the model, its bundle and the seconds that it may take: prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.serve.contest import Row, serving
from benchmarks.serve.peers.engine import SHAPE, load
from benchmarks.serve.server import on_core
from edgekit_runtime import session

BARE, OURS = "bare engine", "edgekit"
WARM_UP = 100
Calls = dict[str, Callable[[], object]]


def main() -> None:
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    bare = load(sys.argv[1])
    with session.load(sys.argv[2]) as ours:
        calls: Calls = {BARE: lambda: bare(x), OURS: lambda: ours.predict(x)}
        print(json.dumps(measure(calls, float(sys.argv[3]))))


def measure(calls: Calls, seconds: float) -> dict[str, tuple[list[float], float]]:
    """By name: the milliseconds of every call, and the CPU seconds of them all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    cpu_s = dict.fromkeys(calls, 0.0)
    for _ in range(WARM_UP):
        for call in calls.values():
            call()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for name, call in calls.items():
            used, started = time.process_time(), time.perf_counter_ns()
            call()
            times[name].append((time.perf_counter_ns() - started) / 1e6)
            cpu_s[name] += time.process_time() - used
    return {name: (times[name], cpu_s[name]) for name in calls}


def rows(model: Path, bundle: Path, core: int, seconds: float) -> list[Row]:
    """Both, each under one call at a time. They share a process, so nothing is told of its memory and its start."""
    words = [sys.executable, "-m", "benchmarks.serve.in_process", str(model), str(bundle), str(seconds)]
    with on_core(core):
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return [Row(name, "in process", {1: serving(ms, sum(ms) / 1e3, cpu_s)}) for name, (ms, cpu_s) in found.items()]


if __name__ == "__main__":
    main()
