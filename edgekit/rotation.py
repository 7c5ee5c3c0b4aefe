"""Rotation: one signing key takes the place of another, on every device of a fleet, however long that takes.

Devices first trust both keys; then this host signs with the new one; then each device trusts the old one no more. What
is done is kept beside fleet.toml, so that devices that were away get both steps when it is run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from edgekit import signing, trust
from edgekit.errors import ConfigError
from edgekit.fleet import Device
from edgekit.transports import Transport
from edgekit.trust import Signer
from edgekit_runtime import durable

FILE = Path(".edgekit/rotation.json")


@dataclass(frozen=True)
class Rotation:
    """From one key to another, both ``KIND BLOB``; ``file`` is the new one's.

    ``done``: the URI, by name, of each device that trusts the new key and the old one no more.
    """

    old: str
    new: str
    file: str
    done: dict[str, str]

    def pending(self, fleet: Iterable[Device]) -> list[Device]:
        """Those to which it has not come yet."""
        return [device for device in fleet if self.done.get(device.name) != device.uri]

    def reached(self, devices: Iterable[Device]) -> Rotation:
        return replace(self, done={**self.done, **{device.name: device.uri for device in devices}})


def take_up(ours: Path | None, named: Path | None) -> Rotation:
    """The rotation that is under way; else a new one, to a named key or to one that is made now.

    ``ours``: the key that edgekit.toml names; None for that of this host. Raises: ConfigError, EdgekitError.
    """
    under_way = _load()
    if under_way:
        if named and signing.signer(named).public() != under_way.new:
            raise ConfigError(f"a rotation to {under_way.file} is under way", "end it first: edgekit trust rotate")
        return under_way
    if ours and not named:
        raise ConfigError(f"edgekit.toml names the signing key {ours}", "make another one, and name it with --key")
    old = signing.signer(ours)
    if named is None:
        signing.make(_next())
    new = named or _next()
    rotation = Rotation(old.public(), signing.signer(new).public(), str(new), {})
    if rotation.old == rotation.new:
        raise ConfigError(f"{new}: this host signs with it already", "name another key with --key")
    keep(rotation)
    return rotation


def keep(rotation: Rotation) -> None:
    """What has been done so far."""
    durable.folder(FILE.parent)
    durable.write(FILE, json.dumps(asdict(rotation), indent=1).encode())


def end() -> None:
    """Forget a rotation that is done."""
    FILE.unlink()


def welcome(transport: Transport, rotation: Rotation) -> None:
    """The first step on a device: it trusts the new key, too. Raises: DeviceError, TransportError."""
    trust.add(transport, Signer(signing.principal(), rotation.new))


def signs(rotation: Rotation, ours: Path | None) -> bool:
    """Whether this host signs with the new key."""
    return signing.signer(ours).public() == rotation.new and not _waits(rotation)


def switch(rotation: Rotation, ours: Path | None) -> None:
    """The second step, on this host. A key that edgekit.toml names is for its writer to change."""
    if ours is None and _waits(rotation):
        _take_place(_next(), signing.default_key())


def farewell(transport: Transport, rotation: Rotation) -> None:
    """The third step, after the first if that was missed. Raises: DeviceError, TransportError."""
    welcome(transport, rotation)
    trust.revoke(transport, rotation.old)


def _load() -> Rotation | None:
    try:
        return msgspec.json.decode(FILE.read_bytes(), type=Rotation)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise ConfigError(f"{FILE}: cannot be read: {error}", "remove it to begin anew") from error


def _waits(rotation: Rotation) -> bool:
    return Path(rotation.file) == _next() and _next().exists()


def _next() -> Path:
    """Where a new key of this host waits until devices know it."""
    return signing.default_key().with_name("signing_key.next")


def _take_place(fresh: Path, key: Path) -> None:
    """Each half by a rename, the private one last; the old ones stay as ``.old``. After a cut: the same once more."""
    for suffix in (trust.PUBLIC, ""):
        source, place, old = (Path(f"{path}{suffix}") for path in (fresh, key, f"{key}.old"))
        if source.exists():
            old.unlink(missing_ok=True)
            old.hardlink_to(place)
            source.replace(place)
