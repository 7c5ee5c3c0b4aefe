"""``edgekit device``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, print_table
from edgekit.cli.remove import remove
from edgekit.cli.setup import setup
from edgekit.cli.simulate import simulate


@click.group()
def device() -> None:
    """Add, probe, set up, remove and simulate devices."""


@device.command()
@click.argument("name")
@click.argument("uri")
@click.option("--target", required=True, help="What it is: a target's name or alias, or your own .toml.")
@click.option("--tag", "tags", multiple=True, help="A word to select it by, such as site=berlin; repeatable.")
@json_option
def add(name: str, uri: str, target: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Write a device into fleet.toml.

    URI is ssh://[user@]host[:port], resolved as ssh does it, or local:/path/to/folder. Nothing is contacted.

    \b
    Example:
      edgekit device add kitchen ssh://pi@kitchen.local --target pi
    """
    from edgekit import fleet
    from edgekit import target as targets

    targets.load(target)
    entry = fleet.Device(name, uri, target, tags)
    fleet.add(Path.cwd(), entry)
    if as_json:
        print_json({"device": _entry(entry)})
    else:
        click.echo(f"added {name}; next: edgekit device setup {name}")


@device.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the devices of fleet.toml.

    \b
    Example:
      edgekit device list
    """
    from edgekit import fleet

    devices = fleet.load(Path.cwd())
    if as_json:
        print_json({"devices": [_entry(each) for each in devices]})
    else:
        print_table(("device", "target", "uri", "tags"), [(d.name, d.target, d.uri, " ".join(d.tags)) for d in devices])


def _entry(entry: Any) -> dict[str, Any]:
    told = {"name": entry.name, "uri": entry.uri, "target": entry.target, "tags": list(entry.tags)}
    return {**told, "server": entry.server or None}


@device.command()
@click.argument("name", required=False)
@accept_option
@json_option
def probe(name: str | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Report what a device is: processor, OS, libc, Python, engines, memory, disk, JetPack.

    Works before anything is set up there; only python3 is needed.

    \b
    Example:
      edgekit device probe kitchen
    """
    from edgekit import device as devices
    from edgekit import fleet
    from edgekit.cli.connect import connected

    entry = fleet.find(Path.cwd(), name)
    with connected(entry, accept_new_host_key) as transport:
        facts = devices.probe(transport)
    facts.pop("schema_version", None)
    if as_json:
        print_json({"device": entry.name, "facts": facts})
    else:
        print_table(("fact", entry.name), [(key.replace("_", " "), _plain(value)) for key, value in facts.items()])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items() if version) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "unknown" if value is None else str(value)


device.add_command(remove)
device.add_command(setup)
device.add_command(simulate)
