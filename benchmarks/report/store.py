"""How fast a store takes in windows, and answers what a dashboard asks: ``python -m benchmarks.report.store``.

500 devices with 2,000 windows of a minute each, as a fleet has them that is at work for an hour a day, for 30 days.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sized
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report.fleet import DAYS, windows
from edgekit.store import Alert, Clock, Store

DEVICES = 500
PART = 1000
"""Windows that come at once: about what a part of a report holds."""
SINGLES = 500
LIMIT_S = 1.0


def fill(store: Store, number: int, now_s: float) -> float:
    """Windows a second, from devices that were offline."""
    spent = 0.0
    for device in range(DEVICES):
        own = list(windows(device, number // DEVICES, now_s))
        for begin in range(0, len(own), PART):
            started = time.perf_counter()
            store.add(f"device-{device:03}", own[begin : begin + PART], Clock(now_s, now_s))
            spent += time.perf_counter() - started
    return number / spent


def one_by_one(store: Store, now_s: float) -> float:
    """Windows a second, from devices that bring one a minute."""
    started = time.perf_counter()
    for device in range(SINGLES):
        last = list(windows(device % DEVICES, 1, now_s))
        store.add(f"device-{device % DEVICES:03}", [replace(last[0], session=f"live-{device}")], Clock(now_s, now_s))
    return SINGLES / (time.perf_counter() - started)


def questions(store: Store, now_s: float) -> dict[str, Callable[[], Sized]]:
    """What a dashboard asks."""
    month, day = now_s - DAYS * 86400, now_s - 86400
    every = ("call", "queue", "preprocess", "infer", "postprocess")
    return {
        "30 days by hour, one app, each device": lambda: store.slices(month, now_s, app="digits"),
        "30 days by hour, one app, together": lambda: store.slices(month, now_s, app="digits", together=True),
        "30 days by hour, together, every stage": lambda: store.slices(month, now_s, together=True, stages=every),
        "1 day by 5 minutes, one device": lambda: store.slices(day, now_s, seconds=300, devices=["device-007"]),
        "1 day by 5 minutes, each device": lambda: store.slices(day, now_s, seconds=300),
        "30 days by day, each device": lambda: store.slices(month, now_s, seconds=86400),
        "fleet()": store.fleet,
        "summaries()": store.summaries,
        "alerts()": store.alerts,
        "have(device)": lambda: store.have("device-007"),
    }


def alerts(store: Store, now_s: float) -> None:
    store.raise_alerts(
        Alert(now_s, f"device-{n:03}", "digits", "", "hot", "warning", 90.0, 80.0, "too hot") for n in range(DEVICES)
    )


def measure(name: str, url: str, number: int) -> bool:
    """Print it; whether each question was answered in time."""
    now_s = time.time()
    with Store(url) as store:
        print(f"\n{name}, {number:,} windows of {DEVICES} devices")
        print(f"  taken in, {PART:,} at a time: {fill(store, number, now_s):10,.0f} windows a second")
        print(f"  taken in, one at a time: {one_by_one(store, now_s):10,.0f} windows a second")
        alerts(store, now_s)
        slowest = 0.0
        for question, ask in questions(store, now_s).items():
            times = []
            for _ in range(3):
                started = time.perf_counter()
                rows = len(ask())
                times.append(time.perf_counter() - started)
            slowest = max(slowest, *times)
            print(f"  {question:40} {rows:8,} rows {min(times) * 1e3:8.1f} ms, the first time {times[0] * 1e3:8.1f} ms")
    return slowest < LIMIT_S


def main() -> int:
    parser = argparse.ArgumentParser("benchmarks.report.store", description=__doc__)
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--postgresql", metavar="URL", help="of an empty database")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        good = measure("SQLite", f"sqlite:///{path}", arguments.windows)
        print(f"  {path.stat().st_size / arguments.windows:.0f} bytes a window")
    if arguments.postgresql:
        good = measure("PostgreSQL", arguments.postgresql, arguments.windows) and good
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
