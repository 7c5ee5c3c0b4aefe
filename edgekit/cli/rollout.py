"""``edgekit rollout``; and a push to several devices, which is one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import json_option, print_json, print_table
from edgekit.cli.push import NOTHING, show
from edgekit.counted import counted

if TYPE_CHECKING:
    from edgekit.errand import Terms
    from edgekit.fleet import Device
    from edgekit.rolling import Ways
    from edgekit.rollout import Part, Rollout
    from edgekit.rollout_store import Book

REFUSED = 3
WAIT = "2m"

number_argument = click.argument("number", required=False, type=int, metavar="[ID]")
executor_option = click.option("--executor", metavar="URI", help="As for 'edgekit push'.")


@click.group()
def rollout() -> None:
    """Show, resume and abort pushes to several devices."""


@rollout.command(name="show")
@number_argument
@json_option
def show_one(number: int | None, as_json: bool) -> None:
    """Show a rollout: its devices wave by wave, and each decision with its reasons.

    Without ID, the project's last one.

    \b
    Example:
      edgekit rollout show
    """
    with _book() as book:
        found = book.find(str(Path.cwd()), number)
    if as_json:
        print_json(_document(found))
        return
    waves = ", ".join(map(str, found.plan.waves))
    older = "; older builds allowed" if found.plan.terms.allow_downgrade else ""
    click.echo(f"rollout {found.number}: {found.state}; waves of {waves}; wait {found.plan.wait_s:g} s{older}")
    rows = [(p.wave, p.device, p.app, p.release[:19], p.state, (p.error or {}).get("message")) for p in found.parts]
    print_table(("wave", "device", "app", "release", "state", ""), rows)
    for decision in found.decisions:
        click.echo(f"wave {decision.wave}: {'go on' if decision.go else 'halt'}: {'; '.join(decision.reasons)}")


@rollout.command()
@number_argument
@executor_option
@json_option
def resume(number: int | None, executor: str | None, as_json: bool) -> None:
    """Carry on a rollout that was halted or interrupted, or left devices that were offline.

    Without ID, the project's last one. Devices that have passed are left alone; those that failed are tried again.

    \b
    Example:
      edgekit rollout resume
    """
    from edgekit import rolling

    with _ways(executor, as_json) as ways:
        found = ways.book.find(str(Path.cwd()), number)
        _refuse_aborted(found)
        _end(rolling.carry_on(found, ways), as_json)


@rollout.command()
@number_argument
@click.option("--rollback", is_flag=True, help="Take its devices back to the release before.")
@executor_option
@json_option
def abort(number: int | None, rollback: bool, executor: str | None, as_json: bool) -> None:
    """End a rollout for good; where it is under way, no further device gets it.

    Without ID, the project's last one. A device that could not be reached for --rollback is asked again when the
    command is run again.

    \b
    Example:
      edgekit rollout abort --rollback
    """
    from edgekit import rolling

    with _ways(executor, as_json) as ways:
        ended = rolling.abort(ways.book.find(str(Path.cwd()), number), ways, back=rollback)
    if as_json:
        print_json(_document(ended))
    else:
        click.echo(f"rollout {ended.number}: aborted")
    if rollback and any(part.facts and part.state != "withdrawn" for part in ended.parts):
        raise SystemExit(1)


def begin(
    devices: Sequence[Device], bundle: Path | None, terms: Terms, as_json: bool, how: dict[str, str | None]
) -> None:
    """A push to several devices, or to one of them with an eye on it."""
    from edgekit import policy, rolling, waves
    from edgekit.cli.places import BUNDLES
    from edgekit.rollout import Plan, assign

    parts = rolling.parts(devices, bundle, Path(BUNDLES))
    if how["share"]:
        names = waves.within([part.device for part in parts], waves.share(how["share"]), parts[0].app)
        parts = tuple(part for part in parts if part.device in names)
    limit = waves.share(how["max_failed"]) if how["max_failed"] else policy.MAX_FAILED
    sizes = waves.sizes(how["waves"] or "100%", len(parts))
    plan = Plan(sizes, waves.duration(how["wait"] or WAIT), limit, terms)
    with _ways(how["executor"], as_json) as ways:
        begun = ways.book.begin(str(Path.cwd()), plan, assign(parts, plan))
        ways.line(f"rollout {begun.number}: {counted(len(parts), 'device')}")
        _end(rolling.carry_on(begun, ways), as_json)


@contextmanager
def _book() -> Iterator[Book]:
    from edgekit.rollout_store import Book
    from edgekit.store import Store

    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield Book(store)


@contextmanager
def _ways(executor: str | None, as_json: bool) -> Iterator[Ways]:
    from edgekit import fanout, fleet
    from edgekit.rolling import Ways

    known = {device.name: device for device in fleet.load(Path.cwd())}
    with _book() as book, fanout.executor(executor) as pool:
        if as_json:
            yield Ways(pool, book, known, part=lambda part: None, line=lambda text: None)
        else:
            yield Ways(pool, book, known, part=_tell, line=lambda text: click.echo(text, err=True))


def _tell(part: Part) -> None:
    if part.state == "withdrawn":
        click.echo(f"{part.device}: back at the release before")
    else:
        show(_result(part))


def _end(ended: Rollout, as_json: bool) -> None:
    if as_json:
        print_json(_document(ended))
    elif ended.state == "halted":
        reasons = "; ".join(ended.decisions[-1].reasons)
        ways = "'edgekit rollout resume' tries again, 'edgekit rollout abort --rollback' goes back"
        click.echo(f"edgekit: rollout {ended.number}: {reasons} — {ways}", err=True)
    if ended.state == "halted":
        raise SystemExit(REFUSED)
    if not all(part.ok for part in ended.parts):
        raise SystemExit(1)


def _refuse_aborted(found: Rollout) -> None:
    from edgekit.errors import ConfigError

    if found.state == "aborted":
        raise ConfigError(f"rollout {found.number} was aborted", "edgekit push")


def _document(found: Rollout) -> dict[str, Any]:
    facts = {"id": found.number, "project": found.project, "state": found.state, "started_s": found.started_s}
    plan = {"waves": list(found.plan.waves), "wait_s": found.plan.wait_s, "max_failed": found.plan.max_failed}
    plan |= {"allow_downgrade": found.plan.terms.allow_downgrade}
    decisions = [{"wave": d.wave, "go": d.go, "reasons": list(d.reasons), "at_s": d.at_s} for d in found.decisions]
    return {"devices": [_result(p) for p in found.parts], "rollout": {**facts, **plan, "decisions": decisions}}


def _result(part: Part) -> dict[str, Any]:
    """As `--json` has a device of a push."""
    about = {"device": part.device, "ok": part.ok, "outcome": part.state, "wave": part.wave}
    return {**about, **(part.facts or NOTHING), "error": part.error}
