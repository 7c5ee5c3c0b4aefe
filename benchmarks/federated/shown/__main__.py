"""The command: ``python -m benchmarks.federated.shown``. See ``benchmarks/README.md``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy comes: products as small as these are for one core

from benchmarks.federated.shown.comparing import comparing
from benchmarks.federated.shown.learning import learning
from benchmarks.federated.shown.leaving import leaving
from benchmarks.federated.shown.lying import lying
from benchmarks.federated.shown.noising import noising
from benchmarks.federated.shown.page import page
from benchmarks.federated.shown.part import Part
from benchmarks.federated.shown.real import real
from edgekit.cli.output import print_table

PARTS: dict[str, Callable[[], Part]] = {
    "learning": learning,
    "strategies": comparing,
    "liars": lying,
    "drop-outs": leaving,
    "privacy": noising,
}


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(list(PARTS)), help="Only these parts; repeatable.")
@click.option(
    "--devices",
    type=click.Choice(["library", "real"]),
    default="library",
    show_default=True,
    help="real: twenty runtimes that are asked over their transports, in minutes.",
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the accuracy after every round to a file.")
def main(names: Sequence[str], devices: str, html: Path | None, file: Path | None) -> None:
    """What rounds come to on simulated devices: beside training in one place, with liars, drop-outs and noise."""
    parts = []
    for make in [real] if devices == "real" else [PARTS[name] for name in names or PARTS]:
        parts.append(make())
        for table in parts[-1].tables:
            print_table(table.columns, table.rows, title=f"{parts[-1].title}: {table.title}")
            click.echo("".join(f"refused: {line}\n" for line in table.notes))
    if html:
        html.write_text(page(parts), "utf-8")
    if file:
        file.write_text(json.dumps([asdict(part) for part in parts], indent=1, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
