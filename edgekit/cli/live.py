"""``edgekit status``, ``rollback`` and ``run``: what is live on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, print_table, progress


@click.command()
@click.argument("names", nargs=-1, metavar="[SELECTOR]...")
@accept_option
@json_option
def status(names: tuple[str, ...], accept_new_host_key: bool, as_json: bool) -> None:
    """Show what each device runs.

    Without SELECTOR, all devices of fleet.toml. A device that does not answer, or whose release is damaged, is shown
    with its error, and the exit status is then 1.

    \b
    Example:
      edgekit status kitchen
    """
    from edgekit import fanout
    from edgekit.cli.connect import devices_named

    found = fanout.at_once(lambda device: _status(device, accept_new_host_key), devices_named(names))
    if as_json:
        print_json({"devices": found})
    else:
        print_table(("device", "app", "version", "release", "model", "state", "previous"), list(_rows(found)))
    if not all(one["ok"] for one in found):
        raise SystemExit(1)


def _status(device: Any, accept: bool) -> dict[str, Any]:
    from edgekit import device as devices
    from edgekit.cli.connect import connected
    from edgekit.errors import EdgekitError

    try:
        with connected(device, accept) as transport:
            answer = devices.call(transport, "status")
    except EdgekitError as error:
        nothing: dict[str, Any] = {"runtime": None, "home": None, "apps": []}
        return {"device": device.name, "ok": False, **nothing, "error": error.as_dict()}
    facts = {key: answer[key] for key in ("runtime", "home", "apps")}
    ok = not any("error" in app["current"] for app in answer["apps"])
    return {"device": device.name, "ok": ok, **facts, "error": None}


def _rows(found: list[dict[str, Any]]) -> Any:
    for one in found:
        if one["error"]:
            yield one["device"], "", "", "", "", one["error"]["message"], ""
        for app in one["apps"]:
            now, before = app["current"], app["previous"]
            if "error" in now:
                yield one["device"], app["app"], "", now["digest"][:19], "", now["error"]["message"], ""
                continue
            model = f"{now['format']}-{now['precision']}"
            previous = before["digest"][:19] if before else ""
            yield one["device"], app["app"], now["version"], now["digest"][:19], model, now["state"]["name"], previous


@click.command()
@click.argument("name", required=False)
@click.option("--app", help="The app (default: the only one on the device).")
@accept_option
@json_option
def rollback(name: str | None, app: str | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Go back to the release before.

    The release that is left is marked bad, so that a second rollback does not return to it.

    \b
    Example:
      edgekit rollback kitchen
    """
    from edgekit import device as devices
    from edgekit import fleet
    from edgekit import push as pushing
    from edgekit.cli.connect import connected

    device = fleet.find(Path.cwd(), name)
    with progress(as_json) as tell, connected(device, accept_new_host_key) as transport:
        chosen = app or only_app(devices.call(transport, "status"))
        release = pushing.rollback(chosen, device, transport, lambda line: tell(f"{device.name}: {line}"))
    if as_json:
        facts = {"release": release["digest"], "version": release["version"], "state": release["state"]["name"]}
        print_json({"device": device.name, "app": chosen, **facts})
    else:
        click.echo(f"{device.name}: {chosen} is back at {release['digest'][:19]} {release['version']}")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--input", "source", required=True, type=click.Path(path_type=Path), help="An .npz with an array per input, or x."
)
@click.option("--output", type=click.Path(path_type=Path), help="Keep the outputs in this .npz.")
@click.option("--app", help="The app (default: the only one on the device).")
@accept_option
@json_option
def run(
    name: str | None, source: Path, output: Path | None, app: str | None, accept_new_host_key: bool, as_json: bool
) -> None:
    """Run one inference on a device.

    The arrays are what predict takes there: with the batch axis, in the source model's layout.

    \b
    Example:
      edgekit run kitchen --input sample.npz
    """
    from edgekit import device as devices
    from edgekit import fleet, inference
    from edgekit.cli.connect import connected

    device = fleet.find(Path.cwd(), name)
    with connected(device, accept_new_host_key) as transport:
        status = devices.call(transport, "status")
        result = inference.run(transport, status["home"], app or only_app(status), source, output)
    if as_json:
        print_json({"device": device.name, **result.as_dict()})
        return
    took = "emulated" if result.latency_ms is None else f"in {result.latency_ms:.3f} ms"
    click.echo(f"{device.name}: {result.app} {took} by {result.engine['name']}")
    for tensor, array in result.outputs.items():
        click.echo(f"{tensor} {array.dtype} {list(array.shape)}\n{array}")


def only_app(status: dict[str, Any]) -> str:
    from edgekit.errors import ConfigError, NotInstalled

    apps = [each["app"] for each in status["apps"]]
    if not apps:
        raise NotInstalled("no app is live on this device", "edgekit push")
    if len(apps) > 1:
        raise ConfigError("which app?", f"the device has {', '.join(apps)}: name one with --app")
    name: str = apps[0]
    return name
