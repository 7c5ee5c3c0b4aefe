"""Contest: all servers on the same core under the same load, in turns; medians over the rounds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.serve import watch
from benchmarks.serve.connection import questions
from benchmarks.serve.entries import Bench, Entry, Tell
from benchmarks.serve.load import put
from benchmarks.serve.server import free_ports, running
from benchmarks.serve.task import Task
from edgekit.errors import EdgekitError

CONCURRENCIES = (1, 8, 32)
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Served:
    """Under one concurrency: requests a second, milliseconds of a request, and the server's CPU milliseconds for it."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class Row:
    """``served`` by concurrency. ``pss`` and ``rss``: MiB after the load. An entry with an ``error`` has nothing."""

    name: str
    told: str
    served: dict[int, Served] = field(default_factory=dict)
    ready_s: float = 0.0
    pss: float = 0.0
    rss: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Terms:
    """The server's core, the seconds under each concurrency, and how often all take their turn."""

    core: int
    seconds: float
    rounds: int


def hold(entries: Sequence[Entry], task: Task, terms: Terms, tell: Tell) -> list[Row]:
    """Rows in the order of the entries; one that failed once takes no further part."""
    found: dict[str, list[Row]] = {entry.name: [] for entry in entries}
    for number in range(terms.rounds):
        for entry in entries:
            if not any(row.error for row in found[entry.name]):
                tell(f"round {number + 1} of {terms.rounds}: {entry.name}")
                found[entry.name].append(_turn(entry, task, terms, tell))
    return [over_rounds(rows) for rows in found.values()]


def _turn(entry: Entry, task: Task, terms: Terms, tell: Tell) -> Row:
    asked = questions(task, entry.dialect)
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as name:
        bench = Bench(task, Path(name), free_ports(), tell)
        try:
            command = entry.command(bench)
            with running(command, terms.core, (bench.port, entry.dialect, asked[0]), bench.folder / "log") as server:
                put(bench.port, entry.dialect, asked, (max(CONCURRENCIES), WARM_UP_S))
                served = {}
                for number in CONCURRENCIES:
                    before = watch.cpu_s(server.pid)
                    heard = put(bench.port, entry.dialect, asked, (number, terms.seconds))
                    served[number] = serving(heard.latencies_ms, heard.seconds, watch.cpu_s(server.pid) - before)
                memory = watch.memory(server.pid)
        except (EdgekitError, OSError) as error:
            return Row(entry.name, entry.dialect.told, error=str(error))
    return Row(entry.name, entry.dialect.told, served, server.ready_s, memory.pss, memory.rss)


def serving(latencies_ms: Sequence[float], seconds: float, cpu_s: float) -> Served:
    p50, p99 = np.percentile(latencies_ms, (50, 99))
    return Served(len(latencies_ms) / seconds, float(p50), float(p99), 1e3 * cpu_s / len(latencies_ms))


def over_rounds(rows: Sequence[Row]) -> Row:
    """Medians; the error, if there is one."""
    last = rows[-1]
    if last.error:
        return last
    served = {number: _median([row.served[number] for row in rows]) for number in last.served}
    rest = (median(getattr(row, name) for row in rows) for name in ("ready_s", "pss", "rss"))
    return Row(last.name, last.told, served, *rest)


def _median(each: Sequence[Served]) -> Served:
    return Served(*(median(getattr(one, name) for one in each) for name in ("per_s", "p50_ms", "p99_ms", "cpu_ms")))
