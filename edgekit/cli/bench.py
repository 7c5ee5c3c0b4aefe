"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.output import accept_option, json_option, milliseconds, print_json, print_table, progress

if TYPE_CHECKING:
    from edgekit.bench.figures import Bench
    from edgekit.bench.layer_times import LayerTimes
    from edgekit.bench.percentiles import Percentile, Percentiles

REFUSED = 3
LEAST_S = 60.0
MOST_SHOWN = 20


@click.command()
@click.argument("name", required=False, metavar="[DEVICE]")
@click.option("--app", help="The app (default: the only one on the device).")
@click.option("--sustain", metavar="TIME", help="Keep it under load for so long as well: 90s, 10m, 1h.")
@click.option("--layers", is_flag=True, help="Show what each layer takes, where the engine tells.")
@accept_option
@json_option
def bench(
    name: str | None, app: str | None, sustain: str | None, layers: bool, accept_new_host_key: bool, as_json: bool
) -> None:
    """Measure the latency of what is live on a device.

    Cold: loading the model, and the first call. Warm: ten seconds of calls without a pause. With --sustain, as many
    more calls as it takes to get as hot as it gets, and the steady state at the end: that is the sustained latency, and
    the only one that is held against the budget. Every figure has an interval at 95 % confidence, and every window the
    machine's state: heat, clock, throttling, supply voltage.

    The inputs are the bundle's golden vectors. Nothing is recorded on the device; what it serves goes on, and takes its
    share. Where the budget is broken, the exit status is 3.

    \b
    Example:
      edgekit bench kitchen --sustain 10m
    """
    from edgekit import device as devices
    from edgekit import fleet
    from edgekit.bench import measuring as benching
    from edgekit.cli.connect import connected
    from edgekit.cli.live import only_app

    order = benching.Order(_seconds(sustain), layers)
    device = fleet.find(Path.cwd(), name)
    with progress(as_json) as tell, connected(device, accept_new_host_key) as transport:
        chosen = app or only_app(devices.call(transport, "status"))
        found = benching.bench(transport, chosen, order, lambda line: tell(f"{device.name}: {line}"))
    if as_json:
        print_json({"device": device.name, **found.as_dict()})
    else:
        _show(device.name, found)
    if not found.verdict.ok:
        raise SystemExit(REFUSED)


def _seconds(sustain: str | None) -> float:
    """Raises: ConfigError."""
    from edgekit import waves
    from edgekit.errors import ConfigError

    seconds = waves.duration(sustain) if sustain else 0.0
    if sustain and seconds < LEAST_S:
        raise ConfigError(f"--sustain {sustain}: nothing gets hot in that", "write 10m, or 60s at least")
    return seconds


def _show(device: str, found: Bench) -> None:
    facts = found.facts
    engine = f"{facts.engine['name']} {facts.engine['version']} ({facts.engine['provider']})"
    columns = ("", "p50 ms", "p95 ms", "p99 ms", "calls", "calls/s")
    print_table(columns, list(_rows(found)), title=f"{device}: {found.app} {facts.release[:19]}, {engine}")
    for line in _lines(found):
        click.echo(f"  {line}")
    if found.layers:
        _show_layers(found.layers)


def _rows(found: Bench) -> Any:
    facts = found.facts
    for what, percentiles in (("load", facts.load), ("first call", facts.first_call)):
        yield what, *_cells(percentiles), len(facts.starts), ""
    for what, part in (("warm", found.warm), ("sustained", found.sustained)):
        if part:
            yield what, *_cells(part.percentiles), part.calls, f"{part.calls_per_s or 0:.1f}"


def _cells(percentiles: Percentiles) -> list[str]:
    return [_cell(percentiles[name]) for name in ("p50", "p95", "p99")]


def _cell(found: Percentile | None) -> str:
    """With its interval, open where nothing is known."""
    return f"{found.ms:.3f} [{milliseconds(found.low)}, {milliseconds(found.high)}]" if found else ""


def _lines(found: Bench) -> Any:
    if found.sustained:
        yield f"sustained: the last {found.sustained.seconds:.0f} of {found.load.seconds:.0f} s under load"
    yield str(found.conditions)
    if found.facts.degraded:
        yield f"degraded: {found.facts.degraded}"
    yield from (*found.verdict.reasons, *found.verdict.notes)
    if not found.verdict.ok:
        yield "refused: the budget's latency is broken"


def _show_layers(found: LayerTimes) -> None:
    if found.note:
        click.echo(f"  no layers: {found.note}")
        return
    click.echo()
    rows = [(op.op, op.nodes, milliseconds(op.ms), f"{op.share:.1%}") for op in found.ops]
    print_table(("op", "nodes", "ms a call", "share"), rows)
    click.echo()
    layers = [(each.name, each.op, milliseconds(each.ms), f"{each.share:.1%}") for each in found.layers[:MOST_SHOWN]]
    print_table(("layer", "op", "ms a call", "share"), layers)
    if len(found.layers) > MOST_SHOWN:
        click.echo(f"  and {len(found.layers) - MOST_SHOWN} more: --json has them all")
