"""Selector: which devices of a fleet somebody means.

Terms with commas between them, all of which hold: a device's name or a tag, ``*`` and ``?`` as in file names,
``target=`` with a target's name or alias, ``all``; ``!`` before a term turns it round. ``site=berlin,target=pi,!lab``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache

from edgekit import target as targets
from edgekit.config import nearest
from edgekit.errors import ConfigError
from edgekit.fleet import Device

EVERY = "all"
SHOWN = 12


def select(devices: Sequence[Device], selector: str) -> tuple[Device, ...]:
    """Those that a selector means, in the fleet's order. Raises: ConfigError when a term, or all of it, means none."""
    found = list(devices)
    for term in selector.split(","):
        wanted = term.removeprefix("!")
        meant = [device.name for device in devices if _is(device, wanted)]
        if not meant:
            raise _unknown(wanted, devices)
        found = [device for device in found if (device.name in meant) != term.startswith("!")]
    if not found:
        raise ConfigError(f"no device is all of {selector!r}", "a comma means and: repeat the option or word for or")
    return tuple(found)


def union(devices: Sequence[Device], selectors: Iterable[str]) -> tuple[Device, ...]:
    """Those that any of the selectors means, each once, in the order asked for. Raises: ConfigError."""
    found = {device.name: device for selector in selectors for device in select(devices, selector)}
    return tuple(found.values())


def _is(device: Device, term: str) -> bool:
    key, sign, value = term.partition("=")
    if key == "target" and sign:
        return _canonical(value) == _canonical(device.target)
    return term == EVERY or any(fnmatchcase(word, term) for word in (device.name, *device.tags))


@cache
def _canonical(target: str) -> str:
    """The name behind an alias; a name that is none stays."""
    try:
        return targets.load(target).name
    except ConfigError:
        return target


def _unknown(term: str, devices: Iterable[Device]) -> ConfigError:
    """Told with what there is: tags of its key, where it has one, else names and the tags without a key."""
    key, sign, _ = term.partition("=")
    tags = {f"target={_canonical(device.target)}" for device in devices} | {t for d in devices for t in d.tags}
    if sign:
        known = sorted(tag for tag in tags if tag.startswith(f"{key}="))
    else:
        known = [*(device.name for device in devices), *sorted(tag for tag in tags if "=" not in tag)]
    skip = len(key + sign) if sign else 0
    meant = nearest(term[skip:], [word[skip:] for word in known])
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    hint = f"it has {', '.join(known[:SHOWN]) or 'no such tag'}{more}"
    return ConfigError(
        f"no device {term!r} in fleet.toml", f"did you mean {term[:skip] + meant!r}?" if meant is not None else hint
    )
