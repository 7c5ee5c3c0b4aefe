"""Opening the way to a device of fleet.toml, for the commands that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit import fleet, transports
from edgekit.cli.output import ask
from edgekit.errors import EdgekitError
from edgekit.fleet import Device
from edgekit.transports import Transport


@contextmanager
def connected(device: Device, accept_new_host_key: bool) -> Iterator[Transport]:
    """The open transport to a device; an error on the way names the device."""
    options = transports.Options(accept_new_host_key=accept_new_host_key, ask=ask())
    try:
        with transports.connect(device.uri, options) as transport:
            yield transport
    except EdgekitError as error:
        if not error.message.startswith(f"{device.name}: "):
            error.message = f"{device.name}: {error.message}"
        raise


def devices_named(names: tuple[str, ...]) -> list[Device]:
    """The devices of these names; without a name, all of the fleet. Raises: ConfigError."""
    if names:
        return [fleet.find(Path.cwd(), name) for name in names]
    devices = list(fleet.load(Path.cwd()))
    return devices or [fleet.find(Path.cwd(), None)]
