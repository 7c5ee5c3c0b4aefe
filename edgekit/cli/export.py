"""``edgekit export``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from edgekit.cli.output import json_option, print_json, progress
from edgekit.counted import counted


@click.group()
def export() -> None:
    """Give Prometheus, Grafana and OpenTelemetry what they need."""


@export.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default="prometheus", help="Where (default: prometheus)."
)
@json_option
def prometheus(names: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Write what Prometheus needs to watch the fleet.

    That is targets, a scrape configuration and alert rules. A device is a target where fleet.toml has its 'server',
    which 'edgekit device setup --service' writes. Prometheus reads the targets again when they change: do this again
    after devices came or went.

    \b
    Examples:
      edgekit export prometheus
      promtool check config prometheus/prometheus.yml
      prometheus --config.file prometheus/prometheus.yml

    The server of a device has to listen where Prometheus reaches it:

    \b
      edgekit device setup kitchen --service \\
        'edgekit-runtime serve --listen 0.0.0.0:8000 --token-file /home/pi/token'
    """
    from edgekit.cli.connect import devices_named
    from edgekit.export import prometheus as files

    devices = devices_named(names)
    written = _write({out / name: text for name, text in files.documents(devices).items()})
    reached = [device.name for device in devices if device.server]
    left_out = [device.name for device in devices if not device.server]
    if as_json:
        print_json({"files": written, "targets": reached, "left_out": left_out})
        return
    click.echo(
        f"{out}: {len(reached)} {'target' if len(reached) == 1 else 'targets'}, scrape configuration, alert rules"
    )
    if left_out:
        click.echo(f"without a server that others reach: {', '.join(left_out)}; see 'edgekit export prometheus --help'")
    if reached and not (out / files.TOKEN).exists():
        click.echo(f"next: put the token of the servers into {out / files.TOKEN}")


@export.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="edgekit-grafana.json",
    help="Where (default: edgekit-grafana.json).",
)
@json_option
def grafana(out: Path, as_json: bool) -> None:
    """Write a Grafana dashboard of what Prometheus has.

    It shows the fleet, latency by release, stages, and conditions of the devices. Import it under Dashboards, New,
    Import. It asks which Prometheus to read; to import it again replaces it.

    \b
    Example:
      edgekit export grafana
    """
    from edgekit.export import grafana as dashboard

    written = _write({out: dashboard.document()})
    if as_json:
        print_json({"files": written})
    else:
        click.echo(f"{out}: import it in Grafana (Dashboards, New, Import)")


@export.command()
@json_option
def otlp(as_json: bool) -> None:
    """Send what devices have reported to OpenTelemetry.

    Latencies, errors, counters and conditions go to a collector, each window once. Where and how is said by
    OTEL_EXPORTER_OTLP_ENDPOINT (default: http://localhost:4318) and the other variables of OpenTelemetry. What was sent
    is remembered in the store (EDGEKIT_STORE): do this after each 'edgekit report', or by a timer. What has come in the
    last minute goes with the next one. Needs: pip install 'edgekit-sdk[otel]'

    \b
    Examples:
      edgekit export otlp
      OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 edgekit export otlp
    """
    from edgekit.errors import ExtraNotInstalled
    from edgekit.store import Store

    try:
        from edgekit.export import otlp as sender
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        hint = "pip install 'edgekit-sdk[otel]'"
        raise ExtraNotInstalled("OpenTelemetry's SDK and exporter are not installed", hint) from error
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    with Store(os.environ.get("EDGEKIT_STORE")) as store, progress(as_json) as tell:
        sent = 0
        for part in () if disabled else sender.send(store, time.time()):
            sent += part
            tell(f"sent {counted(sent, 'window')}")
    if as_json:
        print_json({"endpoint": sender.endpoint(), "windows": sent})
    else:
        click.echo(f"{sender.endpoint()}: {counted(sent, 'window')}{' (OTEL_SDK_DISABLED)' if disabled else ''}")


def _write(documents: dict[Path, str]) -> list[str]:
    """Each in one piece, for somebody may be reading it."""
    from edgekit_runtime import durable

    for path, text in documents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, text.encode())
    return [str(path) for path in documents]
