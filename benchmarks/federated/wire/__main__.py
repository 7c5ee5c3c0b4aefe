"""The command: ``python -m benchmarks.federated.wire``. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy comes: what is computed here is for one core

from benchmarks.federated.shown.fleet import fleet
from benchmarks.federated.shown.scenes import SPREADS
from benchmarks.federated.wire import counts, learned
from benchmarks.federated.wire.app import App
from benchmarks.federated.wire.counts import PLAIN
from benchmarks.federated.wire.lab import NAMES, lab
from edgekit.cli.output import print_table
from edgekit.federated.rounds.spelling import compression

SMALL, LARGE = App(64, 10), App(1280, 1001)
FORMS = ("int8", "10%", "1%")
SECURE = ("--clip", "1.0", "--secure")
PARTS = ("small", "large", "accuracy")


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(PARTS), help="Only these parts; repeatable.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all that was counted to a file.")
def main(names: Sequence[str], file: Path | None) -> None:
    """What a round sends to a device and back over SSH, by form of the update, and what the form costs in accuracy."""
    run = {"small": lambda: _sent(SMALL), "large": lambda: _sent(LARGE), "accuracy": _learned}
    told = {name: run[name]() for name in names or PARTS}
    if file:
        file.write_text(json.dumps(told, indent=1), "utf-8")


def _sent(app: App) -> dict[str, Any]:
    """Counted over real servers, and told."""
    with lab(app) as devices:
        first = NAMES[0]
        ways = {"a connection": devices.connection(first), "which model is live?": devices.look(first)}
        found = {PLAIN: devices.round([first])}
        found |= {f"--compress {form}": devices.round([first], "--compress", form) for form in FORMS}
        found["--secure"] = devices.round(NAMES, *SECURE)
    title = f"A head of {app.name} ({4 * app.numbers:,} bytes): bytes of a round, for one device"
    print_table(counts.COLUMNS, counts.rows(found), title=title)
    print_table(counts.WAYS, counts.ways(ways), title="By itself")
    click.echo()
    return {"rounds": _plain(found), "by itself": _plain(ways)}


def _learned() -> dict[str, Any]:
    fleets = {name: fleet(spread) for name, spread in SPREADS.items()}
    shipped = {name: learned.shipped(of) for name, of in fleets.items()}
    found = {
        form: {name: learned.learned(of, compression(form) if form in FORMS else None) for name, of in fleets.items()}
        for form in (PLAIN, *FORMS)
    }
    told = learned.rows({"as shipped": shipped, **found})
    print_table(("", "bytes", *SPREADS), told, title="Accuracy after 10 rounds of 20 devices, by how even classes are")
    return {form: _plain(by) for form, by in found.items()}


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in found.items()}


if __name__ == "__main__":
    main()
