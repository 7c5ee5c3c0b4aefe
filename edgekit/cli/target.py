"""``edgekit target``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.output import json_option, print_json, print_table


@click.group()
def target() -> None:
    """List and show target profiles."""


@target.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the profiles that come with edgekit.

    \b
    Example:
      edgekit target list
    """
    from edgekit import target as targets

    found = [targets.load(name) for name in targets.names()]
    if as_json:
        print_json({"targets": [_document(each) for each in found]})
        return
    rows = [
        (
            t.name,
            ", ".join(t.aliases),
            t.arch,
            " ".join(e.name for e in t.engines),
            " ".join(p.value for p in t.precisions),
        )
        for t in found
    ]
    print_table(("target", "alias", "arch", "engines", "precisions"), rows)


@target.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a profile, and where its facts come from.

    \b
    Example:
      edgekit target show pi
    """
    from edgekit import target as targets

    document = _document(targets.load(name))
    if as_json:
        print_json({"target": document})
        return
    facts = [(key, _plain(value)) for key, value in document.items() if key not in ("engine", "source")]
    engines = [(f"engine {e['name']}", f"{e['package']}{e['version']}") for e in document["engine"]]
    sources = [(f"source of {s['fact']}", s["from"]) for s in document["source"]]
    print_table(("fact", "value"), facts + engines + sources)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _document(profile: Any) -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(profile)
    return document
