"""The command: one table for each kind of weights. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic

import click

from benchmarks.push.course import CASES, SIDE, Course, Model, models
from benchmarks.push.entries import Entry, entries
from edgekit import signing, simulate
from edgekit.cli.output import print_table
from edgekit.errors import EdgekitError
from tests.lab.wire import wired

COLUMNS = ("entry", "does", *(f"{case}, {unit}" for case in CASES for unit in ("KiB", "s")))


@dataclass(frozen=True)
class Brought:
    """One model brought once: ``wire_bytes`` of both ways, with all that SSH adds."""

    kind: str
    entry: str
    case: str
    wire_bytes: int
    seconds: float


@click.command()
@click.option("--peers", type=click.Path(path_type=Path, exists=True), help="An environment with the Python tools.")
@click.option("--rounds", default=3, show_default=True, help="Seconds are medians of so many.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write every figure to a file.")
def main(peers: Path | None, rounds: int, file: Path | None) -> None:
    """Pushes by edgekit beside other ways to bring 16 MiB to a machine over SSH."""
    found: list[Brought] = []
    with _course() as course:
        for kind in SIDE:
            made = models(kind, course.folder, course.signer)
            for _ in range(rounds):
                for entry in entries(peers):
                    found += _go(course, entry, kind, made)
            print_table(COLUMNS, [_row(entry, kind, found) for entry in entries(peers)], f"16 MiB of {kind} weights")
    if file:
        file.write_text(json.dumps([asdict(each) for each in found], indent=1))


@contextmanager
def _course() -> Iterator[Course]:
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as name:
        folder = Path(name)
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            os.environ[variable] = str(folder / variable.split("_")[1].lower())
        device = simulate.start("pi", folder / "devices")
        try:
            with wired(device) as wire:
                course = Course(folder, device, wire, signing.signer(None))
                course.enlist()
                yield course
        finally:
            simulate.stop("pi", folder / "devices")


def _go(course: Course, entry: Entry, kind: str, made: dict[str, Model]) -> Iterator[Brought]:
    """The cases in order; before the third and the fourth the device has the first model only."""
    for case in CASES:
        model = made.get(case, made[CASES[0]])
        try:
            if case == CASES[0] or case in made:
                course.empty()
            if case in made and case != CASES[0]:
                entry.bring(course, made[CASES[0]])
            before, started = course.wire.total, monotonic()
            entry.bring(course, model)
            yield Brought(kind, entry.name, case, course.wire.total - before, monotonic() - started)
        except EdgekitError as error:
            click.echo(f"{entry.name}, {case}: {error}", err=True)


def _row(entry: Entry, kind: str, found: list[Brought]) -> tuple[str, ...]:
    cells = [entry.name, entry.what]
    for case in CASES:
        mine = [each for each in found if (each.kind, each.entry, each.case) == (kind, entry.name, case)]
        cells += [f"{median(each.wire_bytes for each in mine) / 1024:.0f}" if mine else "failed"]
        cells += [f"{median(each.seconds for each in mine):.2f}" if mine else ""]
    return tuple(cells)


if __name__ == "__main__":
    main()
