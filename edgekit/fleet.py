"""Fleet: the devices in ``fleet.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from edgekit.config import decode, nearest, read_toml
from edgekit.errors import ConfigError
from edgekit_runtime import durable
from edgekit_runtime.home import NAME

FILE = "fleet.toml"

DeviceName = Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[devices.NAME]``: where it is, what it is, and words to select it by."""

    uri: str
    target: str
    tags: list[str] = []


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of fleet.toml."""

    devices: dict[DeviceName, Entry] = {}


class Device(msgspec.Struct, frozen=True):
    """One machine of the fleet."""

    name: str
    uri: str
    target: str
    tags: tuple[str, ...] = ()


def load(folder: Path) -> tuple[Device, ...]:
    """The devices in a folder's fleet.toml, in its order. Raises: ConfigError."""
    path = folder / FILE
    if not path.exists():
        return ()
    document = decode(read_toml(path), Document, Path(FILE))
    return tuple(Device(name, e.uri, e.target, tuple(e.tags)) for name, e in document.devices.items())


def find(folder: Path, name: str | None) -> Device:
    """The device of that name, or the only one. Raises: ConfigError."""
    devices = load(folder)
    if not devices:
        raise ConfigError("fleet.toml has no devices", "add one: edgekit device add NAME ssh://user@host --target pi")
    names = [device.name for device in devices]
    if name is None:
        if len(devices) > 1:
            raise ConfigError("which device?", f"fleet.toml has {', '.join(names)}: name one")
        return devices[0]
    for device in devices:
        if device.name == name:
            return device
    meant = nearest(name, names)
    raise ConfigError(
        f"no device {name!r} in fleet.toml", f"did you mean {meant!r}?" if meant else f"it has {', '.join(names)}"
    )


def add(folder: Path, device: Device, *, replace: bool = False) -> None:
    """Write a device into fleet.toml, comments kept; the file is made when it is missing. Raises: ConfigError."""
    path = folder / FILE
    known = [each.name for each in load(folder)]
    if device.name in known and not replace:
        raise ConfigError(f"fleet.toml has a device {device.name!r} already", "choose another name, or edit the file")
    entry = msgspec.to_builtins(Entry(device.uri, device.target, list(device.tags)))
    decode({"devices": {device.name: entry}}, Document, Path(FILE))
    document = _parsed(path)
    document.setdefault("devices", tomlkit.table(is_super_table=True))[device.name] = entry
    durable.write(path, tomlkit.dumps(document).encode())


def remove(folder: Path, name: str) -> None:
    """Take a device out of fleet.toml; nothing happens when it is not there. Raises: ConfigError."""
    document = _parsed(folder / FILE)
    if document.get("devices", {}).pop(name, None) is not None:
        durable.write(folder / FILE, tomlkit.dumps(document).encode())


def _parsed(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text()) if path.exists() else tomlkit.document()
    except TOMLKitError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
