"""Fleet: the devices in ``fleet.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from edgekit import plugins
from edgekit.config import decode, nearest, read_toml
from edgekit.errors import ConfigError
from edgekit.transports import GROUP, ssh_config
from edgekit_runtime import durable
from edgekit_runtime.home import NAME

FILE = "fleet.toml"

DeviceName = Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
Address = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(%\w+)?\]):[0-9]{1,5}\Z")]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[devices.NAME]``: where it is, what it is, words to select it by, and where others reach its server."""

    uri: str
    target: str
    tags: list[str] = []
    server: Address | None = None


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of fleet.toml."""

    devices: dict[DeviceName, Entry] = {}


class Device(msgspec.Struct, frozen=True):
    """One machine of the fleet. ``server``: HOST:PORT where others than itself reach its server; "" for none."""

    name: str
    uri: str
    target: str
    tags: tuple[str, ...] = ()
    server: str = ""


def load(folder: Path) -> tuple[Device, ...]:
    """The devices in a folder's fleet.toml, in its order. Raises: ConfigError."""
    path = folder / FILE
    if not path.exists():
        return ()
    document = decode(read_toml(path), Document, Path(FILE))
    return tuple(Device(name, e.uri, e.target, tuple(e.tags), e.server or "") for name, e in document.devices.items())


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


def check(device: Device) -> None:
    """Raises: ConfigError when fleet.toml cannot hold it: its name, a URI that no transport takes."""
    decode({"devices": {device.name: _entry(device)}}, Document, Path(FILE))
    parts, known = urlsplit(device.uri), plugins.names(GROUP)
    if parts.scheme not in known or (parts.scheme == "local" and (not parts.path or parts.netloc or parts.query)):
        hint = f"write ssh://user@host or local:/path/to/folder; known are {', '.join(known)}"
        raise ConfigError(f"{device.uri!r} is no device URI", hint)
    if parts.scheme == "ssh":
        ssh_config.from_uri(device.uri)


def add(folder: Path, device: Device, *, replace: bool = False) -> None:
    """Write a device into fleet.toml, comments kept; the file is made when it is missing.

    To replace a device leaves its tags as they are. Raises: ConfigError.
    """
    check(device)
    path = folder / FILE
    known = [each.name for each in load(folder)]
    if device.name in known and not replace:
        raise ConfigError(f"fleet.toml has a device {device.name!r} already", "choose another name, or edit the file")
    text, entry = _read(path), _entry(device)
    ways = [lambda: _edited(text, device.name, entry)]
    if device.name in known:
        entry = {**_devices(text)[device.name], "uri": device.uri, "target": device.target}
    else:
        ways.insert(0, lambda: _appended(text, device.name, entry))
    _write(path, ways, {**_devices(text), device.name: entry})


def serve(folder: Path, name: str, server: str) -> None:
    """Write where others reach a device's server, or with "" that nobody does. Raises: ConfigError."""
    path = folder / FILE
    devices = _devices(_read(path))
    before = devices[name]
    after = {
        **{key: value for key, value in before.items() if key != "server"},
        **({"server": server} if server else {}),
    }
    if after != before:
        _write(path, [lambda: _edited(_read(path), name, after)], {**devices, name: after})


def remove(folder: Path, name: str) -> None:
    """Take a device out of fleet.toml, comments kept; nothing happens when it is not there. Raises: ConfigError."""
    if name in [device.name for device in load(folder)]:
        text = _read(folder / FILE)
        left = {key: entry for key, entry in _devices(text).items() if key != name}
        _write(folder / FILE, [lambda: _cut(text, name), lambda: _edited(text, name, None)], left)


def _write(path: Path, ways: Sequence[Callable[[], str]], devices: dict[str, Any]) -> None:
    """The first of the texts that says what it should. (tomlkit loses entries whose keys are written with dots.)"""
    for way in ways:
        with suppress(tomllib.TOMLDecodeError, TOMLKitError):
            text = way()
            if _devices(text) == devices:
                durable.write(path, text.encode())
                return
    raise ConfigError(f"{path.name}: written in a way that edgekit cannot change", "edit it by hand")


def _appended(text: str, name: str, entry: dict[str, Any]) -> str:
    added = tomlkit.dumps({"devices": {name: entry}}).removeprefix("[devices]\n")
    return f"{text.rstrip()}\n\n{added}" if text.strip() else added


def _cut(text: str, name: str) -> str:
    """The text without the lines of a device's own table, but with the comments that stand before the next one."""
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"""\s*\[\s*devices\s*\.\s*(["']?){re.escape(name)}\1\s*\]""")
    start = next((i for i, line in enumerate(lines) if header.match(line)), len(lines))
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    while end > start and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return "".join(lines[:start] + lines[end:])


def _edited(text: str, name: str, entry: dict[str, Any] | None) -> str:
    """By tomlkit: the entry changed or added, or taken out where it is None."""
    document: dict[str, Any] = tomlkit.parse(text)
    devices = document.setdefault("devices", {})
    if entry is None:
        devices.pop(name)
    else:
        table = devices.setdefault(name, {})
        table.update({key: entry[key] for key in entry if table.get(key) != entry[key]})
        for key in table.keys() - entry.keys():
            table.pop(key)
    return tomlkit.dumps(document)


def _entry(device: Device) -> dict[str, Any]:
    entry: dict[str, Any] = msgspec.to_builtins(
        Entry(device.uri, device.target, list(device.tags), device.server or None)
    )
    return entry


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig") if path.exists() else ""


def _devices(text: str) -> dict[str, Any]:
    devices: dict[str, Any] = tomllib.loads(text).get("devices", {})
    return devices
