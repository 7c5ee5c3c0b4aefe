"""``edgekit init``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from edgekit.cli.output import json_option, print_json
from edgekit.errors import ConfigError
from edgekit_runtime import durable


@click.command()
@json_option
def init(as_json: bool) -> None:
    """Write a commented edgekit.toml and fleet.toml.

    A file that is there already is left as it is; if both are, that is an error.

    \b
    Example:
      edgekit init
    """
    names = ("edgekit.toml", "fleet.toml")
    written = [name for name in names if not Path(name).exists()]
    if not written:
        raise ConfigError("edgekit.toml and fleet.toml are here already", "edit them")
    for name in written:
        durable.write(Path(name), files("edgekit").joinpath("templates", name).read_bytes())
    if as_json:
        print_json({"written": written})
    else:
        click.echo(f"wrote {' and '.join(written)}")
