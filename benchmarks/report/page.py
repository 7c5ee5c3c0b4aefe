"""How much a page weighs, and how long it takes to make: ``python -m benchmarks.report.page``.

Fleets of 1, 50 and 500 devices with a window every three hours for 30 days. The report must stay bounded however many
there are; of the dashboard, what a browser loads first, and what it loads when something has changed.
"""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report.fleet import DAYS, windows
from edgekit.dashboard.app import ASSETS, text_of
from edgekit.dashboard.look import look
from edgekit.page import render
from edgekit.page.gather import gather
from edgekit.store import Clock, Store

FLEETS = (1, 50, 500)
WINDOWS = DAYS * 8
MOST_BYTES = 500_000
"""Of a report, whoever is in it."""


def fill(store: Store, devices: int, now_s: float) -> None:
    for device in range(devices):
        store.add(f"device-{device:03}", windows(device, WINDOWS, now_s), Clock(now_s, now_s))


def weigh(name: str, texts: list[str], began: float) -> int:
    """Print it; how many bytes."""
    data = "".join(texts).encode()
    packed, spent = len(gzip.compress(data)), time.perf_counter() - began
    print(f"  {name:28} {len(data):9,} bytes, {packed:8,} gzipped, {spent:6.2f} s")
    return len(data)


def measure(devices: int, url: str) -> bool:
    """Print it; whether the report is no heavier than it may be."""
    now_s = time.time()
    with Store(url) as store:
        fill(store, devices, now_s)
        print(f"{devices} devices, {devices * WINDOWS:,} windows")
        began = time.perf_counter()
        report = weigh("report", [render.report(gather(store, None, now_s), "Latency", now_s)], began)
        began = time.perf_counter()
        page = look(store, list, now_s)
        weigh("dashboard, when it changes", [page], began)
        weigh("dashboard, at first", [page, *map(text_of, ASSETS)], began)
    return report <= MOST_BYTES


def main() -> None:
    """Exit status 1 where a report is too heavy."""
    with TemporaryDirectory() as folder:
        good = [measure(devices, f"sqlite:///{Path(folder) / str(devices)}.db") for devices in FLEETS]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
