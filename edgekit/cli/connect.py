"""Opening the way to a device of fleet.toml, for the commands that need one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from edgekit import fleet, selector, transports
from edgekit.cli.output import ask
from edgekit.fanout import reached
from edgekit.fleet import Device
from edgekit.transports import Transport


@contextmanager
def connected(device: Device, accept_new_host_key: bool) -> Iterator[Transport]:
    """The open transport to a device, with a question to whoever sits at the terminal; errors name the device."""
    with reached(device, transports.Options(accept_new_host_key=accept_new_host_key, ask=ask())) as transport:
        yield transport


def show_failure(device: str, error: Mapping[str, str | None]) -> None:
    """One line on standard error, which names the device, for what did not keep a command from its other devices."""
    line = f"{error['message']} — {error['hint']}" if error["hint"] else str(error["message"])
    click.echo(f"edgekit: {line}" if line.startswith(f"{device}: ") else f"edgekit: {device}: {line}", err=True)


def devices_named(names: tuple[str, ...]) -> list[Device]:
    """The devices that these selectors mean; without one, all of the fleet. Raises: ConfigError."""
    devices = fleet.load(Path.cwd()) or (fleet.find(Path.cwd(), None),)
    return list(selector.union(devices, names) if names else devices)


def devices_to(names: tuple[str, ...]) -> list[Device]:
    """The devices that these selectors mean; without one, the only one of the fleet. Raises: ConfigError."""
    return devices_named(names) if names else [fleet.find(Path.cwd(), None)]
