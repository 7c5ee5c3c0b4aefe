"""``edgekit advise``."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgekit.advice.experience import Run


@click.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@click.option("--app", help="The app (default: all that devices have served).")
@json_option
def advise(names: tuple[str, ...], app: str | None, as_json: bool) -> None:
    """Say what measured times would change in the next build, and why.

    Times that devices reported are compared by class of device, format, precision and engine, with what the builds
    measured on their hosts beside them. The store is asked, no device: 'edgekit report' fills it. 'edgekit build
    --learn-from fleet' follows exactly this advice.

    \b
    Example:
      edgekit advise target=pi
    """
    from edgekit.advice.experience_store import apps, runs
    from edgekit.cli.connect import devices_named
    from edgekit.store import Store

    devices = [device.name for device in devices_named(names)]
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        known = apps(store, devices) if app is None else [app]
        found = {each: runs(store, devices, each, time.time()) for each in known}
    documents = [_document(each, own) for each, own in found.items()]
    if as_json:
        print_json({"apps": documents})
        return
    for document in documents:
        _show(document)
    if not any(found.values()):
        click.echo("no device has reported a call that says how fast it is: edgekit report")


def _document(app: str, runs: Sequence[Run]) -> dict[str, Any]:
    from edgekit.advice.experience import timed

    measured = [asdict(each) | {"told": each.told} for each in timed(runs)]
    return {
        "app": app,
        "measured": measured,
        "advice": [asdict(line) | {"changes": line.changes} for line in _lines(runs)],
    }


def _lines(runs: Sequence[Run]) -> list[Any]:
    """The advice for each class of devices."""
    from edgekit import target as targets
    from edgekit.advice.advising import advise as advised
    from edgekit.building.guard import SLOWER
    from edgekit.errors import ConfigError

    found = []
    for name in sorted({run.target for run in runs}):
        own = [run for run in runs if run.target == name]
        try:
            declared = targets.load(name).threads
        except ConfigError:  # of somebody's own profile, which lies elsewhere
            declared = max(run.threads for run in own)
        found += advised(name, declared, own, SLOWER)
    return found


def _show(document: dict[str, Any]) -> None:
    for line in document["advice"]:
        change = f"{line['before']} → {line['after']}" if line["changes"] else line["before"]
        verdict = change if line["changes"] or not line["after"] else f"{change} stays"
        sure = f" ({line['sure']})" if line["sure"] else ""
        click.echo(f"{document['app']} on {line['target']}: {line['what']}: {verdict}{sure}\n  {line['why']}")
