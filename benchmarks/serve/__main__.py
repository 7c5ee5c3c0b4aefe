"""The command: one table of all servers, and under it what was promised of ours. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.serve import contest, entries, in_process, ours, promises, task
from benchmarks.serve.contest import CONCURRENCIES, Row, Terms
from benchmarks.serve.in_process import BARE
from edgekit.cli.output import print_table

LOADED = tuple(f"{what} at {number}" for number in CONCURRENCIES for what in ("1/s", "p50 ms", "p99 ms"))
COLUMNS = ("entry", "tensors", *LOADED, "CPU ms", "over bare", "PSS MiB", "RSS MiB", "ready s")


@click.command()
@click.option("--only", "names", metavar="NAME,…", help="Only the entries whose names begin so.")
@click.option("--seconds", default=5.0, show_default=True, help="Under each concurrency.")
@click.option("--rounds", default=3, show_default=True, help="All figures are medians of so many.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write every figure to a file.")
def main(names: str | None, seconds: float, rounds: int, file: Path | None) -> None:
    """Servers of one ONNX model side by side: one core for the server, one for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("it takes two cores, one for the server and one for the load")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, and so by the servers
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as name:
        made = task.make(Path(name))
        bundle = ours.write_bundle(made, Path(name))
        os.sched_setaffinity(0, {cores[1]})
        rows = in_process.rows(made.model, bundle, cores[0], seconds)
        taking_part = [each for each in (ours.entry(bundle), *entries.peers()) if wanted(each.name, names)]
        rows += contest.hold(taking_part, made, Terms(cores[0], seconds, rounds), tell)
    show(rows)
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def wanted(name: str, names: str | None) -> bool:
    return names is None or any(name.lower().startswith(each.strip().lower()) for each in names.split(","))


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show(rows: Sequence[Row]) -> None:
    bare, within, *servers = rows
    print_table(COLUMNS, [_cells(row, bare.served[1].cpu_ms) for row in rows], "float32 [1, 3, 96, 96], 110 kB")
    for row in rows:
        if row.error:
            print(f"{row.name}: {row.error}")
    kept = [promises.in_process(within, bare)]
    mine = next((row for row in servers if row.name == within.name and not row.error), None)
    kept += promises.all_of(mine, [row for row in servers if row is not mine]) if mine else []
    for each in kept:
        print(f"{'yes' if each.kept else 'NO '}  {each.name}: {each.told}")


def _cells(row: Row, bare_ms: float) -> tuple[str, ...]:
    if row.error:
        return (row.name, "failed")
    cells = [row.name, row.told]
    for number in CONCURRENCIES:
        one = row.served.get(number)
        cells += [f"{one.per_s:.0f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"] if one else [""] * 3
    cpu_ms = row.served[1].cpu_ms
    cells += [f"{cpu_ms:.2f}", "" if row.name == BARE else f"{cpu_ms - bare_ms:+.2f}"]
    return (*cells, *(f"{row.pss:.0f}", f"{row.rss:.0f}", f"{row.ready_s:.2f}")) if row.ready_s else tuple(cells)


if __name__ == "__main__":
    main()
