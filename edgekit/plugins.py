"""Entry points: built-ins and third-party parts come in by the same door."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoints, entry_points

from edgekit.errors import PluginError


def names(group: str) -> list[str]:
    """The names in an entry-point group, sorted; nothing is imported."""
    return sorted(_in(group).names)


def load(group: str, name: str) -> object:
    """The object behind a name. Raises: PluginError when it is unknown or cannot be imported."""
    found = _in(group)
    if name not in found.names:
        raise PluginError(f"no {name!r} in {group}", f"known: {', '.join(names(group)) or 'none'}")
    try:
        return found[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{name!r} in {group} cannot be loaded: {error}") from error


@cache
def _in(group: str) -> EntryPoints:
    """Read once in a process: it opens a file of every package that is installed, and a build asks a dozen times."""
    return entry_points(group=group)
