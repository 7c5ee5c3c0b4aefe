"""What was promised of our server, held against the figures of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.serve.contest import CONCURRENCIES, Row

MAX_CPU_MS, MAX_READY_S, MAX_MIB, MAX_RATIO = 1.5, 0.6, 70.0, 1.02


@dataclass(frozen=True)
class Promise:
    name: str
    kept: bool
    told: str


@dataclass(frozen=True)
class Figure:
    """``cost``: the smaller, the better; its amount is what is told."""

    name: str
    cost: Callable[[Row], float]


def _under(number: int) -> tuple[Figure, ...]:
    return (
        Figure(f"requests/s at {number}", lambda row: -row.served[number].per_s),
        Figure(f"p99 at {number}, ms", lambda row: row.served[number].p99_ms),
    )


FIGURES = (
    *(figure for number in CONCURRENCIES for figure in _under(number)),
    Figure("memory (PSS), MiB", lambda row: row.pss),
    Figure("ready before the others, s", lambda row: row.ready_s),
)


def all_of(ours: Row, peers: Sequence[Row]) -> list[Promise]:
    """Against fixed limits, and against every peer that served."""
    served = [row for row in peers if not row.error]
    found = [
        _limit("CPU of a request, ms", ours.served[1].cpu_ms, MAX_CPU_MS),
        _limit("ready, s", ours.ready_s, MAX_READY_S),
        _limit("resident, each page once (PSS), MiB", ours.pss, MAX_MIB),
    ]
    return found + [_ahead(ours, served, figure) for figure in FIGURES] if served else found


def in_process(ours: Row, bare: Row) -> Promise:
    """Of ``Session.predict`` over the bare engine call."""
    return _limit("in process, ratio to the bare engine", ours.served[1].p50_ms / bare.served[1].p50_ms, MAX_RATIO)


def _limit(name: str, value: float, limit: float) -> Promise:
    return Promise(name, value <= limit, f"{value:.3g}, at most {limit:g}")


def _ahead(ours: Row, peers: Sequence[Row], figure: Figure) -> Promise:
    best = min(peers, key=figure.cost)
    mine, theirs = abs(figure.cost(ours)), abs(figure.cost(best))
    told = f"{mine:.4g}; the best other, {best.name}, {theirs:.4g}"
    return Promise(figure.name, figure.cost(ours) < figure.cost(best), told)
