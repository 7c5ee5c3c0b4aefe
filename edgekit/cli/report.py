"""``edgekit report``."""

from __future__ import annotations

import os
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, milliseconds, print_json, print_table, progress


@click.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@click.option("--no-pull", is_flag=True, help="Show what the store has; ask no device.")
@accept_option
@json_option
def report(names: tuple[str, ...], no_pull: bool, accept_new_host_key: bool, as_json: bool) -> None:
    """Pull latencies from devices, store and show them.

    Pulling twice stores nothing twice. The store is SQLite in the user's state folder, or the database whose
    SQLAlchemy URL stands in EDGEKIT_STORE. A device that does not answer is named, and the exit status is then 1.
    The times of an emulated device are no latencies, and are not shown.

    \b
    Example:
      edgekit report kitchen
    """
    from edgekit.cli.connect import devices_named, show_failure
    from edgekit.store import Store

    devices = devices_named(names)
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        failures = [] if no_pull else _pull(store, devices, accept_new_host_key, as_json)
        rows = [_row(summary) for summary in store.summaries([device.name for device in devices])]
    if as_json:
        print_json({"reports": rows, "failures": failures})
    else:
        columns = ("device", "app", "release", "count", "p50 ms", "p95 ms", "p99 ms", "errors")
        print_table(columns, [_cells(row) for row in rows])
        for failure in failures:
            show_failure(**failure)
    if failures:
        raise SystemExit(1)


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


def _row(summary: Any) -> dict[str, Any]:
    latency = {"p50": summary.p50, "p95": summary.p95, "p99": summary.p99}
    facts = {"device": summary.device, "app": summary.app, "release": summary.release, "count": summary.count}
    return {
        **facts,
        "emulated": summary.emulated,
        "latency_ms": latency,
        "errors": summary.errors,
        "first_s": summary.first_s,
        "last_s": summary.last_s,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    latency = ["emulated" if row["emulated"] else milliseconds(row["latency_ms"][key]) for key in ("p50", "p95", "p99")]
    errors = ", ".join(f"{code} {number}" for code, number in row["errors"].items()) or 0
    return row["device"], row["app"], row["release"][:19], row["count"], *latency, errors
