"""``edgekit collect``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, print_table, progress

WEB = "pip install 'edgekit-sdk[web]'"


@click.group(invoke_without_command=True)
@click.option(
    "--listen", metavar="[HOST:]PORT", default="8443", show_default=True, help="Without HOST, on all interfaces."
)
@click.option("--certificate", type=click.Path(dir_okay=False, path_type=Path), help="PEM (default: one of its own).")
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="The certificate's key, where apart.")
@click.option("--mqtt", metavar="URL", help="Collect from a broker instead: mqtts://broker:8883.")
@click.option("--ca", metavar="FILE", help="The broker's certificate, or what signs it (default: the system's).")
@click.pass_context
def collect(
    context: click.Context, listen: str, certificate: Path | None, key: Path | None, mqtt: str | None, ca: str | None
) -> None:
    """Take what devices deliver, where SSH cannot reach in.

    Into the store of 'edgekit report', until it is stopped. Over HTTPS, with a certificate of its own that is made at
    the first start and that devices are given when they are enrolled; or from an MQTT broker. A window is stored once,
    however often it comes, and none is acknowledged before it is stored. Once a minute the devices of fleet.toml are
    judged by the rules, as 'edgekit report' does.

    \b
    Examples:
      edgekit device setup kitchen --service 'edgekit-runtime deliver'
      edgekit collect enrol kitchen
      edgekit collect
      edgekit report --no-pull
    """
    if context.invoked_subcommand is None:
        from edgekit.cli.judging import judging  # before the store is opened, which makes the tables of what is known

        with _opened() as (store, tokens), judging(store, _say):
            if mqtt:
                _from_broker(store, tokens, mqtt, ca)
            else:
                _over_https(store, tokens, listen, (certificate, key))


def _over_https(store: Any, tokens: Any, listen: str, files: tuple[Path | None, Path | None]) -> None:
    from edgekit.collect import certificate
    from edgekit.errors import ExtraNotInstalled

    try:
        from edgekit.collect import serving
        from edgekit.collect.app import app
    except ImportError as error:
        raise ExtraNotInstalled(f"collecting needs {error.name}", WEB) from error
    host, port = serving.place(listen)
    door = serving.Door(host, port, files[0] or certificate.own(), files[1])
    serving.serve(app(store, tokens, _say), door, lambda: _say(f"collecting at https://{host}:{port}"))


def _from_broker(store: Any, tokens: Any, url: str, ca: str | None) -> None:
    from edgekit.collect import broker, certificate

    broker.Collector(store, tokens, _say).run(broker.address(url), certificate.known(ca or certificate.SYSTEM))


@collect.command()
@click.argument("names", nargs=-1, metavar="SELECTOR...", required=True)
@click.option("--url", help="Where they deliver: https://host:8443 or mqtts://broker:8883 (default: to this host).")
@click.option(
    "--ca",
    metavar="FILE",
    help="The certificate that they meet there or that signs it, or 'system' (default: the collector's own; of a "
    "broker, the system's).",
)
@accept_option
@json_option
def enrol(names: tuple[str, ...], url: str | None, ca: str | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Give devices a token each, and tell them where to deliver.

    Over the way to them that exists now; from then on they deliver by themselves, and what they still have from
    before too. Again for a new token; the old one is worth nothing any more. Exit status 1 when a device could not
    be enrolled; one that does not reach the collector yet is enrolled, and tries again by itself.

    \b
    Examples:
      edgekit collect enrol kitchen
      edgekit collect enrol site=berlin --url https://collect.example.com --ca system
      edgekit collect enrol kitchen --url mqtts://broker.example.com --ca ca.crt
    """
    from edgekit import fanout
    from edgekit.cli.connect import devices_named, show_failure

    devices = devices_named(names)
    with progress(as_json) as tell, _opened() as (_, tokens):
        enrolling = _Enrolling(tokens, url, ca, accept_new_host_key)
        done = fanout.at_once(lambda device: (tell(f"{device.name}: enrolling"), enrolling.one(device))[1], devices)
    failures = [each for each in done if "error" in each]
    if as_json:
        print_json({"devices": [each for each in done if "error" not in each], "failures": failures})
    else:
        for each in done:
            if "error" in each:
                show_failure(**each)
            else:
                click.echo(_told(each))
    if failures:
        raise SystemExit(1)


class _Enrolling:
    def __init__(self, tokens: Any, url: str | None, ca: str | None, accept: bool) -> None:
        from edgekit.collect import certificate

        self._tokens, self._url, self._accept = tokens, url, accept
        self._trusted = certificate.known(ca or (certificate.SYSTEM if url and url.startswith("mqtts:") else None))

    def one(self, device: Any) -> dict[str, Any]:
        from edgekit.cli.connect import connected
        from edgekit.collect import enrolment
        from edgekit.errors import EdgekitError

        try:
            with connected(device, self._accept) as transport:
                return dict(vars(enrolment.enrol(transport, device.name, self._tokens, self._url, self._trusted)))
        except EdgekitError as error:
            return {"device": device.name, "error": error.as_dict()}


def _told(enrolled: dict[str, Any]) -> str:
    line = f"{enrolled['device']}: is enrolled, and delivers to {enrolled['url']}"
    return line if enrolled["reached"] else f"{line} as soon as it gets there; now: {enrolled['note']}"


@collect.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the devices that are enrolled.

    \b
    Example:
      edgekit collect list
    """
    from datetime import datetime

    with _opened() as (_, tokens):
        issued = tokens.issued()
    if as_json:
        print_json({"devices": [{"device": each.device, "since_s": each.since_s} for each in issued]})
    else:
        rows = [(each.device, datetime.fromtimestamp(each.since_s).strftime("%Y-%m-%d %H:%M")) for each in issued]
        print_table(("device", "since"), rows)


@collect.command()
@click.argument("names", nargs=-1, metavar="NAME...", required=True)
@json_option
def revoke(names: tuple[str, ...], as_json: bool) -> None:
    """Take the tokens of devices away: what they deliver is refused from now on.

    The devices are not contacted. With a broker, bring its password file up to date afterwards:
    edgekit collect passwords.

    \b
    Example:
      edgekit collect revoke kitchen
    """
    with _opened() as (_, tokens):
        had = {name: tokens.revoke(name) for name in names}
    if as_json:
        print_json({"devices": [{"device": name, "revoked": revoked} for name, revoked in had.items()]})
        return
    for name, revoked in had.items():
        click.echo(f"{name}: {'may not deliver any more' if revoked else 'had no token'}")


@collect.command("passwords")
@json_option
def passwords_(as_json: bool) -> None:
    """Print a password file for Mosquitto: all devices that are enrolled, and the collector.

    It holds salted hashes, no passwords. The collector's user is _collector; its password lies in the user's
    configuration folder, made at the first use.

    \b
    Example:
      edgekit collect passwords > edgekit.passwords
    """
    from edgekit.collect import passwords

    with _opened() as (_, tokens):
        lines = [passwords.line(passwords.COLLECTOR, passwords.collector())]
        lines += [each.password for each in tokens.issued()]
    if as_json:
        print_json({"lines": lines})
    else:
        click.echo("\n".join(lines))


@contextmanager
def _opened() -> Iterator[tuple[Any, Any]]:
    """The store and its tokens, for as long as the block runs."""
    from edgekit.collect.tokens import Tokens
    from edgekit.store import Store

    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        yield store, Tokens(store)


def _say(line: str) -> None:
    click.echo(line, err=True)
