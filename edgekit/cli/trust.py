"""``edgekit trust``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, print_table, to_option


@click.group()
def trust() -> None:
    """Say whose signatures devices take."""


@trust.command("list")
@to_option
@accept_option
@json_option
def list_(names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """List the signers that each device knows.

    \b
    Example:
      edgekit trust list
    """
    from edgekit import trust as trusting
    from edgekit.cli.connect import devices_named

    results = _each(devices_named(names), accept_new_host_key, trusting.signers)
    documents = [_with(result, "signers", [_signer(each) for each in result[1] or ()]) for result in results]
    if as_json:
        print_json({"devices": documents})
    else:
        rows = [
            (one["device"], each["name"], each["fingerprint"], "revoked" if each["revoked"] else "trusted")
            for one in documents
            for each in one["signers"]
        ]
        print_table(("device", "signer", "key", ""), rows)
    _end(documents)


@trust.command()
@click.argument("key", type=click.Path(path_type=Path), metavar="KEYFILE.pub")
@click.option("--name", help="What to call the signer (default: the key's comment).")
@to_option
@accept_option
@json_option
def add(key: Path, name: str | None, names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """Let devices take bundles that are signed with another key, too.

    \b
    Example:
      edgekit trust add ann.pub --to site=berlin
    """
    from dataclasses import replace

    from edgekit import trust as trusting
    from edgekit.cli.connect import devices_named

    signer = trusting.read(key)
    signer = replace(signer, name=name) if name else signer
    results = _each(devices_named(names), accept_new_host_key, lambda link: trusting.add(link, signer))
    _tell_changes(results, f"trusts {signer.name} {signer.fingerprint}", as_json)


@trust.command()
@click.argument("who", metavar="KEY-OR-NAME")
@to_option
@accept_option
@json_option
def revoke(who: str, names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """Let devices trust a key no more, for good.

    WHO is the .pub file of a key, its fingerprint, or a signer's name. Releases that are installed go on serving.

    \b
    Example:
      edgekit trust revoke ann@desk
    """
    from edgekit import trust as trusting
    from edgekit.cli.connect import devices_named

    results = _each(devices_named(names), accept_new_host_key, lambda link: trusting.revoke(link, who))
    _tell_changes(results, f"trusts {who} no more", as_json)


@trust.command()
@click.option("--key", type=click.Path(path_type=Path), help="The new key (default: one is made).")
@to_option
@accept_option
@json_option
def rotate(key: Path | None, names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """Put a new signing key in the place of this host's, on all devices.

    Devices trust both keys, then this host signs with the new one, then the old one is revoked. Devices that do not
    answer keep what they serve, and are taken up when it is run again; until then the exit status is 1.

    \b
    Example:
      edgekit trust rotate
    """
    from edgekit import fleet, project, rotation
    from edgekit.cli.connect import devices_named

    written = project.load(Path.cwd()).signing_key
    ours, devices = Path(written).expanduser() if written else None, devices_named(names)
    now = rotation.take_up(ours, key)
    results, there = list[Result](), now.pending(devices)
    if not rotation.signs(now, ours):
        results = _each(there, accept_new_host_key, lambda link: rotation.welcome(link, now))
        there = [device for device, _, error in results if error is None]
        if there:
            rotation.switch(now, ours)
    if signs := rotation.signs(now, ours):
        done = _each(there, accept_new_host_key, lambda link: rotation.farewell(link, now))
        results = [*(result for result in results if result[2]), *done]
        now = now.reached(device for device, _, error in done if error is None)
    left = len(now.pending(fleet.load(Path.cwd())))
    rotation.keep(now) if left or not signs else rotation.end()
    _show_rotation(now, results, signs, left, as_json)


Result = tuple[Any, Any, Any]
"""A device, what came of the work, or the error."""


def _each(devices: Sequence[Any], accept: bool, work: Callable[[Any], Any]) -> list[Result]:
    """The same for each device, side by side; in the order asked for."""
    from edgekit import fanout, transports
    from edgekit.errors import EdgekitError

    def one(device: Any) -> Result:
        try:
            with fanout.reached(device, transports.Options(accept_new_host_key=accept)) as transport:
                return device, work(transport), None
        except EdgekitError as error:
            return device, None, error

    return fanout.at_once(one, devices)


def _with(result: Result, key: str, shown: Any) -> dict[str, Any]:
    device, _, error = result
    return {"device": device.name, "ok": error is None, key: shown, "error": error.as_dict() if error else None}


def _signer(each: Any) -> dict[str, Any]:
    return {"name": each.name, "key": each.key, "fingerprint": each.fingerprint, "revoked": each.revoked}


def _tell_changes(results: Sequence[Result], what: str, as_json: bool) -> None:
    documents = [_with(result, "changed", result[1]) for result in results]
    if as_json:
        print_json({"devices": documents})
    for one in documents if not as_json else ():
        if one["ok"]:
            click.echo(f"{one['device']}: {what}" + ("" if one["changed"] else ", as before"))
    _end(documents)


def _show_rotation(now: Any, results: Sequence[Result], signs: bool, left: int, as_json: bool) -> None:
    from edgekit import trust as trusting

    documents = [_with(result, "done", None if result[2] else signs) for result in results]
    old, new = (trusting.Signer("", key).fingerprint for key in (now.old, now.new))
    if as_json:
        print_json({"old": old, "new": new, "signs": "new" if signs else "old", "left": left, "devices": documents})
    for one in documents if not as_json else ():
        if one["ok"]:
            click.echo(f"{one['device']}: trusts {new}" + (f", and {old} no more" if signs else f" beside {old}"))
    if not signs and not as_json:
        click.echo(f"this host signs with the old key yet; if edgekit.toml names it, write: signing_key = {now.file!r}")
    if left and not as_json:
        click.echo(f"devices left: {left}; run it again")
    _end(documents, failed=bool(left) or not signs)


def _end(documents: Sequence[dict[str, Any]], *, failed: bool = False) -> None:
    from edgekit.cli.connect import show_failure

    for one in documents:
        if one["error"]:
            show_failure(one["device"], one["error"])
    if failed or not all(one["ok"] for one in documents):
        raise SystemExit(1)
