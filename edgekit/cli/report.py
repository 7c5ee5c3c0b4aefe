"""``edgekit report``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, progress


@click.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@click.option("--no-pull", is_flag=True, help="Show what the store has; ask no device.")
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots, too."
)
@accept_option
@json_option
def report(names: tuple[str, ...], no_pull: bool, html: Path | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Pull latencies from devices, store and show them.

    Pulling twice stores nothing twice. The store is SQLite in the user's state folder, or the database whose
    URL stands in EDGEKIT_STORE. A device that does not answer is named, and the exit status is then 1. The times of
    an emulated device are no latencies, and are not shown.

    p95 over time is of the last 24 slices of 5 minutes, an hour or a day, the finest that reach back to the begin. The
    stages, the temperature and the share of throttled time are of the same time, where a device tells them.

    What was pulled is judged by the rules ('edgekit policy check'): alerts are shown, and rules that say so hold
    rollouts or roll devices back. Where one has, or a critical alert is open, the exit status is 3.

    The page is one file that asks for nothing else: the last 30 days, by release, device and stage, with temperature,
    throttling, errors and drift on the same time axis.

    \b
    Examples:
      edgekit report kitchen
      edgekit report --html report.html
    """
    from edgekit.cli import report_rows
    from edgekit.cli.connect import devices_named, show_failure
    from edgekit.cli.watching import REFUSED, Judged, in_force, judged
    from edgekit.rules.watch import Watched, opened
    from edgekit.store import Store

    devices, rules = devices_named(names), in_force()
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        failures = [] if no_pull else _pull(store, devices, accept_new_host_key, as_json)
        rows = report_rows.read(store, [device.name for device in devices])
        with progress(as_json) as tell:
            found = (
                Judged(Watched(opened(store, [device.name for device in devices])))
                if no_pull
                else judged(store, rules, devices, accept_new_host_key, tell)
            )
        if html:
            _write_page(html, store, names, [device.name for device in devices])
    if as_json:
        print_json({"reports": rows, **found.as_dict(), "failures": failures})
    else:
        report_rows.show(rows)
        found.show()
        for failure in failures:
            show_failure(**failure)
    if found.refused or failures:
        raise SystemExit(REFUSED if found.refused else 1)


def _write_page(path: Path, store: Any, asked: tuple[str, ...], devices: list[str]) -> None:
    from edgekit.page import render
    from edgekit.page.gather import gather
    from edgekit_runtime import durable

    now_s = time.time()
    title = f"Latency of {', '.join(asked) or 'the fleet'}"
    durable.write(path, render.report(gather(store, devices, now_s), title, now_s).encode())
    click.echo(f"{path}: {path.stat().st_size / 1024:.0f} KiB", err=True)


def _pull(store: Any, devices: list[Any], accept: bool, as_json: bool) -> list[dict[str, Any]]:
    from edgekit import fanout, reports
    from edgekit.cli.connect import connected
    from edgekit.errors import EdgekitError

    def pull(device: Any) -> dict[str, Any] | None:
        tell(f"{device.name}: pulling reports")
        try:
            with connected(device, accept) as transport:
                reports.pull(transport, device.name, store)
        except EdgekitError as error:
            return {"device": device.name, "error": error.as_dict()}
        return None

    with progress(as_json) as tell:
        return [failure for failure in fanout.at_once(pull, devices) if failure]
