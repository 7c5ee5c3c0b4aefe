"""How commands speak: tables or one JSON object on standard output, progress on standard error; and shared options."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

SCHEMA_VERSION = 1
UNBOUNDED = 10_000
_ASKING = threading.Lock()

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
to_option = click.option(
    "--to",
    "names",
    multiple=True,
    metavar="SELECTOR",
    help="A device of fleet.toml, or a tag, or several with commas that all hold: site=berlin,target=pi; repeatable.",
)
accept_option = click.option(
    "--accept-new-host-key", is_flag=True, help="Trust the key of a host not seen before (a changed key never)."
)


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table as wide as it needs to be; colours and box only on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    wide = not sys.stdout.isatty()
    table = Table(title=title, title_justify="left", box=None if wide else box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=wide)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console = Console(markup=False, highlight=False, width=UNBOUNDED if wide else None)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextmanager
def progress(as_json: bool = False) -> Iterator[Callable[[str], None]]:
    """Gives a function that tells what is being done: a spinner on a terminal, plain lines elsewhere."""
    if as_json:
        yield lambda line: None
    elif sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("") as status:
            yield lambda line: status.update(line.replace("[", r"\["))
    else:
        yield lambda line: click.echo(line, err=True)


def ask() -> Callable[[str], bool] | None:
    """A question on the terminal, where there is one to answer it."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def one_by_one(question: str) -> bool:
        with _ASKING:
            return click.confirm(question, err=True)

    return one_by_one


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def kibibytes(size: int) -> str:
    return f"{size / 1024:.1f} KiB"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
