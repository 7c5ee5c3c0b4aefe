"""``edgekit push``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, kibibytes, print_json, progress, to_option

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("release", "state", "previous", "bytes_sent", "bytes_total", "seconds", "proof")),
    "notes": [],
}


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@to_option
@click.option("--waves", help="How many devices have it after each wave: 1,10%,100%. The first one is the canary.")
@click.option("--wait", metavar="TIME", help="How long to look on after a wave: 90s, 2m, 1h (default: 2m; 0 for not).")
@click.option("--max-failed", metavar="SHARE", help="Of a wave after the canary, before all halts (default: 10%).")
@click.option("--share", help="Only this share of them, 20%: next time the same ones.")
@click.option("--executor", metavar="URI", help="Where the work for devices runs: dask://HOST:PORT (default: here).")
@click.option("--allow-downgrade", is_flag=True, help="Also an older build than was live there; the device keeps note.")
@accept_option
@json_option
def push(bundle: Path | None, names: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Send a bundle to devices, prove it there, and switch to it.

    Without BUNDLE, the one in bundles/ that was built for a device's target. The device checks the signature and
    every digest, runs the golden vectors on its own engine, and switches only when they hold; until then, and if
    anything fails, the release before goes on serving.

    Several devices are a rollout, which is kept: 'edgekit rollout' shows it, and carries on one that was halted or
    interrupted, or finds devices that were offline. With waves, it halts (exit status 3) when one device of the
    first wave fails, or more than --max-failed of a later one: in the push, or looked at afterwards, by errors and
    latencies beside those of the release before.

    \b
    Examples:
      edgekit push --to kitchen
      edgekit push --to site=berlin,target=pi --waves 1,10%,100% --wait 10m
    """
    from edgekit.cli.connect import devices_to
    from edgekit.errand import Terms

    devices, terms = devices_to(names), Terms(how.pop("accept_new_host_key"), how.pop("allow_downgrade"))
    if len(devices) > 1 or any(how.values()):
        from edgekit.cli.rollout import begin

        begin(devices, bundle, terms, as_json, how)
    else:
        _push_alone(devices[0], bundle, terms, as_json)


def _push_alone(device: Any, bundle: Path | None, terms: Any, as_json: bool) -> None:
    from edgekit.errors import EdgekitError

    result: dict[str, Any]
    try:
        result, status = {"ok": True, **_push(device, bundle, terms, as_json), "error": None}, 0
    except EdgekitError as error:
        result, status = {"ok": False, **NOTHING, "error": error.as_dict()}, error.exit_code
    result = {"device": device.name, "outcome": "done" if result["ok"] else "failed", "wave": None, **result}
    if as_json:
        print_json({"devices": [result], "rollout": None})
    else:
        show(result)
    if status:
        raise SystemExit(status)


def _push(device: Any, bundle: Path | None, terms: Any, as_json: bool) -> dict[str, Any]:
    from edgekit import push as pushing
    from edgekit import target
    from edgekit.cli.connect import connected
    from edgekit.cli.places import BUNDLES
    from edgekit.errand import facts

    folder = bundle or pushing.find_bundle(Path(BUNDLES), target.load(device.target).name)
    parcel = pushing.open_parcel(folder)
    pushing.check_target(parcel, device)
    with progress(as_json) as tell, connected(device, terms.accept_new_host_key) as transport:
        told, older = lambda line: tell(f"{device.name}: {line}"), terms.allow_downgrade
        return facts(pushing.push(parcel, device, transport, told, allow_downgrade=older))


def show(result: dict[str, Any]) -> None:
    """Two lines for a device that has the release, and one for each note; else the error."""
    from edgekit.cli.connect import show_failure

    name, proof, error = result["device"], result["proof"], result["error"]
    if error:
        show_failure(name, error)
        return
    sent = f"{kibibytes(result['bytes_sent'])} of {kibibytes(result['bytes_total'])} sent"
    click.echo(f"{name}: {result['release'][:19]} is live; {sent} in {result['seconds']:.1f} s")
    share = "" if proof["share"] is None else f", {proof['share']:.0%} of its nodes"
    shown = f"{proof['vectors']} golden vectors, largest error {proof['max_abs_error']:.4g}"
    click.echo(
        f"{name}: proven by {proof['engine']} ({proof['provider']}{share}): {shown}, agreement {proof['agreement']:.0%}"
    )
    for note in result["notes"]:
        click.echo(f"{name}: {note}")
