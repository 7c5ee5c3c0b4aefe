"""Fleet map: a cell for each device and app, by site, that says which release it runs and how it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.counted import counted
from edgekit.page import words

if TYPE_CHECKING:
    from edgekit.fleet import Device
    from edgekit.store import Alert, Seen

QUIET_S = 86400.0
"""After so long without a call, a device is quiet: switched off, cut off, or nobody asks it anything."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OLDER = "·"
SITE = "site="
UNKNOWN, SITELESS = "not in fleet.toml", "no site"
HEALTHS = {"critical": "critical", "warning": "warning", "quiet": "quiet", "ok": "fine", "none": "never reported"}
"""The worst first, and as a person reads it."""
LIMITS = (("throttled", "is throttled"), ("under_voltage", "has too little voltage"))


@dataclass(frozen=True)
class Cell:
    """``letter`` stands for the release; ``told`` is all that there is to say, in one line."""

    device: str
    letter: str
    health: str
    told: str


@dataclass(frozen=True)
class Group:
    """The devices of a site."""

    site: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Key:
    """What a letter stands for, and how many devices run it."""

    letter: str
    release: str
    devices: int


@dataclass(frozen=True)
class Map:
    """The devices that run an app, or have never reported anything ("")."""

    app: str
    keys: tuple[Key, ...]
    groups: tuple[Group, ...]

    @property
    def healths(self) -> dict[str, int]:
        """How many devices there are of each of HEALTHS, where there are any."""
        known = [cell.health for group in self.groups for cell in group.cells]
        return {health: known.count(health) for health in HEALTHS if health in known}


def maps(devices: Sequence[Device], fleet: Sequence[Seen], alerts: Sequence[Alert], now_s: float) -> list[Map]:
    """One for each app, by name; then the devices of fleet.toml that have never reported."""
    sites, found = _sites(devices), []
    for app in sorted({seen.app for seen in fleet}):
        here = [seen for seen in fleet if seen.app == app]
        keys = _keys(here)
        letters = {key.release: key.letter for key in keys}
        cells = (_cell(seen, letters.get(seen.release, OLDER), _against(seen, alerts), now_s) for seen in here)
        found.append(Map(app, keys, _grouped(cells, sites)))
    heard = {seen.device for seen in fleet}
    silent = (Cell(d.name, "", "none", f"{d.name} has never reported") for d in devices if d.name not in heard)
    return found + [Map("", (), groups) for groups in [_grouped(silent, sites)] if groups]


def _sites(devices: Iterable[Device]) -> dict[str, str]:
    """By the first tag that names one."""
    tagged = {d.name: [tag[len(SITE) :] for tag in d.tags if tag.startswith(SITE)] for d in devices}
    return {name: sites[0] if sites else SITELESS for name, sites in tagged.items()}


def _keys(here: Sequence[Seen]) -> tuple[Key, ...]:
    """Letters for releases, A for the one that was seen first the latest; there are as many as LETTERS."""
    first = {seen.release: min(s.first_s for s in here if s.release == seen.release) for seen in here}
    newest = sorted(first, key=lambda release: (-first[release], release))
    counts = {release: sum(seen.release == release for seen in here) for release in newest}
    return tuple(Key(letter, release, counts[release]) for letter, release in zip(LETTERS, newest, strict=False))


def _against(seen: Seen, alerts: Iterable[Alert]) -> list[Alert]:
    """What is open against a device, or against the app on it."""
    return [alert for alert in alerts if alert.device == seen.device and alert.app in ("", seen.app)]


def health(seen: Seen, against: Sequence[Alert], now_s: float) -> str:
    """One of HEALTHS."""
    if any(alert.level == "critical" for alert in against):
        return "critical"
    if now_s - seen.last_s > QUIET_S:
        return "quiet"
    return "warning" if against or _limits(seen) else "ok"


def _limits(seen: Seen) -> list[str]:
    return [line for key, line in LIMITS if seen.conditions.get(key)]


def _cell(seen: Seen, letter: str, against: Sequence[Alert], now_s: float) -> Cell:
    how = health(seen, against, now_s)
    told = [f"{words.cut(seen.device)}: {HEALTHS[how]}", f"release {letter} {words.release(seen.release)}"]
    told += [alert.told for alert in against] + _limits(seen)
    told.append(f"{counted(seen.count, 'call')}, {words.share(_failed(seen))} failed")
    if "temperature_c" in seen.conditions:
        told.append(words.celsius(seen.conditions["temperature_c"]))
    told.append(f"last heard of at {words.hour(seen.last_s)}")
    return Cell(seen.device, letter, how, "; ".join(told))


def _failed(seen: Seen) -> float:
    return seen.errors / (seen.count + seen.errors) if seen.errors else 0.0


def _grouped(cells: Iterable[Cell], sites: Mapping[str, str]) -> tuple[Group, ...]:
    """By site, those without one last; where fleet.toml knows nobody, as one."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(sites.get(cell.device, UNKNOWN), []).append(cell)
    ranked = sorted(groups, key=lambda site: (site in (UNKNOWN, SITELESS), site))
    return tuple(Group(site, tuple(sorted(groups[site], key=lambda cell: cell.device))) for site in ranked)
