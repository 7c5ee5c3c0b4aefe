"""``edgekit why``: how a device came to run what it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, milliseconds, print_json, print_table


@click.command()
@click.argument("name", required=False)
@click.argument("app", required=False)
@accept_option
@json_option
def why(name: str | None, app: str | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Show how a device came to run what it runs.

    For APP, or all apps of the device: the last switches with time (by the device's clock), code and reason, how the
    release on trial is doing, the last latencies, and the last lines of a start or a proof that failed.

    \b
    Example:
      edgekit why kitchen
      2026-03-01 08:00:12  activated    sha256:0a1b2c3d4e5f
      2026-03-01 08:00:40  start_failed sha256:0a1b2c3d4e5f  start_failed   KeyError: 'scores'
      2026-03-01 08:02:03  rolled_back  sha256:0a1b2c3d4e5f  failed_starts  3 starts failed
    """
    from edgekit import device as devices
    from edgekit import fleet
    from edgekit.cli.connect import connected

    device = fleet.find(Path.cwd(), name)
    with connected(device, accept_new_host_key) as transport:
        apps = devices.call(transport, "why", *([app] if app else []))["apps"]
    if as_json:
        print_json({"device": device.name, "apps": apps})
        return
    for each in apps:
        for line in _lines(each):
            click.echo(f"{device.name}: {each['app']}: {line}")
        print_table(("time", "what", "release", "code", "reason"), [_row(event) for event in each["events"]])
        for line in next((event["tail"] for event in reversed(each["events"]) if event["tail"]), ()):
            click.echo(f"  {line}")


def _lines(app: dict[str, Any]) -> Iterator[str]:
    """What serves, how it does, and the trial, as far as there is one."""
    now, latency = app["current"], app["latency"]
    if now is None or "error" in now:
        yield now["error"]["message"] if now else "nothing is live"
        return
    yield f"{now['digest'][:19]} {now['version']} is live, {now['state']['name']}"
    if latency:
        p50, p95 = (milliseconds(latency[key]) for key in ("p50_ms", "p95_ms"))
        times = f"p50 {p50} ms, p95 {p95} ms" if p50 else "not timed"
        yield f"the last {latency['calls']} calls: {times}, {sum(latency['errors'].values())} errors"
    if trial := now["trial"]:
        seen = f"{trial['calls']} calls, {trial['errors']} errors, {trial['failed_starts']} failed starts"
        yield f"on trial until {trial['until']}; so far {seen}, {trial['seconds'] / 60:.1f} minutes"
        if trial["reason"]:
            yield f"it stays, although {trial['reason']}"
    if now.get("degraded"):
        yield f"degraded: {now['degraded']}"
    tuned = now["state"]["proof"].get("tuned")
    if tuned and tuned["faster"]:
        cores = f" on cores {', '.join(map(str, tuned['cpus']))}" if tuned["cpus"] else ""
        yield f"tuned to {tuned['threads']} threads{cores}: {tuned['faster']:.0%} less time"


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    at = datetime.fromtimestamp(event["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    return at, event["what"], event["release"][:19], event["code"], event["reason"]
