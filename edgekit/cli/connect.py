"""Opening the way to a device of fleet.toml, for the commands that need one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from edgekit import fleet, transports
from edgekit.cli.output import ask
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.transports import Transport


@contextmanager
def connected(device: Device, accept_new_host_key: bool) -> Iterator[Transport]:
    """The open transport to a device; an error on the way names the device, as does the command that its hint has."""
    options = transports.Options(accept_new_host_key=accept_new_host_key, ask=ask())
    try:
        with transports.connect(device.uri, options) as transport:
            yield transport
    except EdgekitError as error:
        if not error.message.startswith(f"{device.name}: "):
            error.message = f"{device.name}: {error.message}"
        if error.hint:  # a device does not know what it is called here
            error.hint = error.hint.replace("edgekit device setup'", f"edgekit device setup {device.name}'")
        raise


def show_failure(device: str, error: Mapping[str, str | None]) -> None:
    """One line on standard error, which names the device, for what did not keep a command from its other devices."""
    line = f"{error['message']} — {error['hint']}" if error["hint"] else str(error["message"])
    click.echo(f"edgekit: {line}" if line.startswith(f"{device}: ") else f"edgekit: {device}: {line}", err=True)


def devices_named(names: tuple[str, ...]) -> list[Device]:
    """The devices of these names; without a name, all of the fleet. Raises: ConfigError."""
    if names:
        return [fleet.find(Path.cwd(), name) for name in dict.fromkeys(names)]
    devices = list(fleet.load(Path.cwd()))
    return devices or [fleet.find(Path.cwd(), None)]
