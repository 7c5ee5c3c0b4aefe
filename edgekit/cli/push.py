"""``edgekit push``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, kibibytes, print_json, progress


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--to", "names", multiple=True, help="A device's name in fleet.toml (default: the only one); repeatable.")
@accept_option
@json_option
def push(bundle: Path | None, names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """Send a bundle to a device, prove it there, and switch to it.

    Without BUNDLE, the one in bundles/ that was built for the device's target. The device checks the signature and
    every digest, runs the golden vectors on its own engine, and switches only when they hold; until then, and if
    anything fails, the release before goes on serving.

    \b
    Example:
      edgekit push --to kitchen
    """
    from edgekit import fleet
    from edgekit.errors import EdgekitError

    results, status = [], 0
    for device in [fleet.find(Path.cwd(), name) for name in dict.fromkeys(names) or (None,)]:
        try:
            results.append(_push_one(bundle, device, accept_new_host_key, as_json))
        except EdgekitError as error:
            status = max(status, error.exit_code)
            results.append(_failed(device.name, error))
    if as_json:
        print_json({"devices": results})
    for result in results if not as_json else ():
        _show(result)
    if status:
        raise SystemExit(status)


def _push_one(bundle: Path | None, device: Any, accept: bool, as_json: bool) -> dict[str, Any]:
    from edgekit import push as pushing
    from edgekit import target
    from edgekit.cli.connect import connected
    from edgekit.cli.places import BUNDLES

    folder = bundle or pushing.find_bundle(Path(BUNDLES), target.load(device.target).name)
    parcel = pushing.open_parcel(folder)
    pushing.check_target(parcel, device)
    with progress(as_json) as tell, connected(device, accept) as transport:
        done = pushing.push(parcel, device, transport, lambda line: tell(f"{device.name}: {line}"))
    proof = {key: done.proof[key] for key in ("vectors", "max_abs_error", "agreement", "engine", "provider")}
    sizes = {"bytes_sent": done.bytes_sent, "bytes_total": done.bytes_total, "seconds": done.seconds}
    releases = {"release": done.release, "previous": done.previous}
    return {"device": device.name, "ok": True, **releases, **sizes, "proof": proof, "error": None}


def _failed(name: str, error: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("release", "previous", "bytes_sent", "bytes_total", "seconds", "proof"))
    return {"device": name, "ok": False, **nothing, "error": error.as_dict()}


def _show(result: dict[str, Any]) -> None:
    from edgekit.cli.connect import show_failure

    name, proof, error = result["device"], result["proof"], result["error"]
    if error:
        show_failure(name, error)
        return
    sent = f"{kibibytes(result['bytes_sent'])} of {kibibytes(result['bytes_total'])} sent"
    click.echo(f"{name}: {result['release'][:19]} is live; {sent} in {result['seconds']:.1f} s")
    shown = f"{proof['vectors']} golden vectors, largest error {proof['max_abs_error']:.4g}"
    click.echo(
        f"{name}: proven by {proof['engine']} ({proof['provider']}): {shown}, agreement {proof['agreement']:.0%}"
    )
