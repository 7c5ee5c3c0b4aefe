"""Entry points: built-ins and third-party parts come in by the same door."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgekit.errors import PluginError


def names(group: str) -> list[str]:
    """The names in an entry-point group, sorted; nothing is imported."""
    return sorted(entry_points(group=group).names)


def load(group: str, name: str) -> object:
    """The object behind a name. Raises: PluginError when it is unknown or cannot be imported."""
    found = list(entry_points(group=group, name=name))
    if not found:
        raise PluginError(f"no {name!r} in {group}", f"known: {', '.join(names(group)) or 'none'}")
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{name!r} in {group} cannot be loaded: {error}") from error
