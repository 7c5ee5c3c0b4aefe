"""``edgekit policy``."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import json_option, print_json, print_table
from edgekit.counted import counted

if TYPE_CHECKING:
    from edgekit.rules.judging import Rule


@click.group()
def policy() -> None:
    """Rules on what devices report."""


@policy.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@json_option
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Show the rules in force, and what each would do now; nothing is changed.

    The rules are those that come with edgekit, with policy.toml beside fleet.toml over them. They judge what the store
    has: no device is asked. 'edgekit report' judges what it has pulled, and acts.

    \b
    Example:
      edgekit policy check
    """
    from edgekit.cli.connect import devices_named
    from edgekit.cli.watching import in_force, said
    from edgekit.rules import deeds as deciding
    from edgekit.rules import watch
    from edgekit.rules.deed_store import Deeds
    from edgekit.store import Store

    rules, devices = in_force(), [device.name for device in devices_named(names)]
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        evidence, alerts = watch.look(store, rules, devices, time.time())
        due = deciding.due(alerts, rules, evidence, Deeds(store).done(devices))
    if as_json:
        would = {"alerts": [asdict(alert) for alert in alerts], "due": [asdict(each) for each in due]}
        print_json({"rules": [_facts(rule) for rule in rules], **would})
        return
    columns = ("rule", "holds when", "during", "calls", "level", "does", "app", "devices", "now")
    print_table(columns, [_cells(rule, sum(alert.rule == rule.name for alert in alerts)) for rule in rules])
    for alert in alerts:
        click.echo(f"{alert.level}: {said(alert)}")
    for each in due:
        what = "hold running rollouts of" if each.do == "hold" else f"roll {each.device} back from"
        click.echo(f"would {what} {each.app} {each.release[:19]}: {each.reason}")


def _facts(rule: Rule) -> dict[str, Any]:
    return {**asdict(rule), "app": rule.app or None, "devices": sorted(rule.devices or ())}


def _cells(rule: Rule, now: int) -> tuple[object, ...]:
    when = f"{rule.metric} {'above' if rule.above is not None else 'below'} {rule.threshold:g}"
    about = "all" if rule.devices is None else len(rule.devices)
    does = "alerts" if rule.do == "alert" else rule.do
    told = counted(now, "device") if now else ""
    return rule.name, when, f"{rule.during_s / 3600:g} h", rule.least, rule.level, does, rule.app or "all", about, told
