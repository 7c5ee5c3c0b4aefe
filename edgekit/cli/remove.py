"""``edgekit device remove``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, ask, json_option, print_json


@click.command()
@click.argument("name")
@click.option("--keep-data", is_flag=True, help="Leave what the device has noted and kept: reports, logs and samples.")
@click.option("--forget", is_flag=True, help="Only take it out of fleet.toml; the device is not contacted.")
@accept_option
@json_option
def remove(name: str, keep_data: bool, forget: bool, accept_new_host_key: bool, as_json: bool) -> None:
    """Take edgekit off a device, and the device out of fleet.toml.

    It says what goes, and asks first where there is a terminal: services that setup installed are stopped, then
    releases, the runtime and the trusted keys are removed. Other files in the same folder stay, and are named.

    \b
    Example:
      edgekit device remove kitchen
    """
    from edgekit import fleet
    from edgekit.cli.places import DEVICES
    from edgekit.errors import ConfigError

    entry = fleet.find(Path.cwd(), name)
    if (Path(DEVICES) / name).exists():
        raise ConfigError(f"{name} is a device on this machine", f"edgekit device simulate {name} --stop")
    found = None if forget else _taken_off(entry, keep_data, accept_new_host_key, as_json)
    fleet.remove(Path.cwd(), name)
    if as_json:
        print_json({"device": name, **_removed(found)})
    elif found is None:
        click.echo(f"{name}: taken out of fleet.toml; what is on the device stays there")
    else:
        left = f"; left in {found.home}: {', '.join(found.others)}" if found.others else ""
        click.echo(f"{name}: removed{left}")


def _taken_off(entry: Any, keep_data: bool, accept: bool, as_json: bool) -> Any:
    from edgekit import removal
    from edgekit.cli.connect import connected

    with _told_of_forgetting(), connected(entry, accept) as transport:
        found = removal.look(transport, keep_data=keep_data)
        if not as_json:
            _announce(f"{entry.name}: removing {', '.join(found.told)}")
        removal.remove(transport, found)
    return found


@contextmanager
def _told_of_forgetting() -> Iterator[None]:
    """A device that cannot be reached can still be forgotten."""
    from edgekit.errors import ConnectError

    try:
        yield
    except ConnectError as error:
        way = "--forget takes it out of fleet.toml only"
        error.hint = f"{error.hint}; {way}" if error.hint else way
        raise


def _announce(what: str) -> None:
    """Say what goes; ask where there is somebody to answer."""
    question = ask()
    if question is None:
        click.echo(what, err=True)
    elif not question(f"{what}: go on?"):
        raise click.Abort


def _removed(found: Any) -> dict[str, Any]:
    if found is None:
        return {"home": None, "removed": [], "left": [], "services": []}
    lists = {"removed": found.ours, "left": found.others, "services": found.services}
    return {"home": found.home, **{key: list(names) for key, names in lists.items()}}
