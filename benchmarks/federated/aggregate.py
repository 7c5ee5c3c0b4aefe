"""The command: time and memory of each strategy beside Flower's: ``python -m benchmarks.federated.aggregate``.

See ``benchmarks/README.md``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from benchmarks.federated import files
from benchmarks.federated.entries import BESIDE, OURS, Row, Task, flower, ours
from edgekit.cli.output import print_table

COLUMNS = ("entry", "s", "with reading", "peak MiB", "farthest from ours")


@click.command()
@click.option(
    "--updates", "count", default=100, show_default=True, help="Of so many devices, a tenth of which may lie."
)
@click.option("--size", default=1_000_000, show_default=True, help="Numbers in an update.")
@click.option("--only", "names", multiple=True, help="Only the strategies of these names.")
@click.option("--alone", is_flag=True, help="Without Flower.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds that any of them may take.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all that was measured to a file.")
def main(count: int, size: int, names: tuple[str, ...], alone: bool, timeout_s: float, file: Path | None) -> None:
    """What aggregation costs, beside Flower's functions on the same updates."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # so that seconds are those of one core, for all
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-", dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        folder = Path(name)
        files.write(folder, count, size)
        task = Task(folder, size, count // 10, timeout_s)
        rows = [row for name in OURS if not names or name in names for row in measured(name, task, alone)]
    print_table(COLUMNS, [_cells(*row) for row in rows], title=f"{count} updates of {size:,} numbers, one core")
    if file:
        told = [{key: value for key, value in vars(row).items() if key != "result"} for row, _ in rows]
        file.write_text(json.dumps({"updates": count, "size": size, "rows": told}, indent=1))


def measured(name: str, task: Task, alone: bool) -> Iterator[tuple[Row, float | None]]:
    """Ours, then those beside it, each with how far any of its numbers is from ours."""
    mine = ours(name, task)
    yield mine, None
    for tool in () if alone else BESIDE.get(name, ()):
        their = flower(tool, task)
        yield their, _farthest(mine, their)


def _farthest(mine: Row, their: Row) -> float | None:
    if not mine.result or not their.result:
        return None
    with np.load(mine.result) as a, np.load(their.result) as b:
        return max(float(np.abs(a[name] - b[name]).max()) for name in a.files)


def _cells(row: Row, apart: float | None) -> Sequence[object]:
    if row.error:
        return row.name, "", "", "", row.error
    told = (f"{row.seconds:.2f}", f"{row.whole_s:.2f}", f"{row.bytes / (1 << 20):.0f}")
    return row.name, *told, "" if apart is None else f"{apart:.0e}"


if __name__ == "__main__":
    main()
