"""``edgekit device setup``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import accept_option, json_option, print_json, progress

if TYPE_CHECKING:
    from edgekit.brought import Brought
    from edgekit.provision import Provisioned
    from edgekit.service import Installed, Service
    from edgekit.signing import Signer


@click.command()
@click.argument("name", required=False)
@click.option(
    "--engine", help="The engine to install (default: what the bundle for its target needs, else the target's first)."
)
@click.option("--server", is_flag=True, help="Bring what serves models over HTTP there ('edgekit-runtime serve').")
@click.option("--grpc", is_flag=True, help="Bring that with gRPC (8 MB).")
@click.option("--train", is_flag=True, help="Bring what learns there, from samples that stay there ('edgekit round').")
@click.option("--offline", is_flag=True, help="Bring all wheels from this host; the device needs no package index.")
@click.option(
    "--service",
    metavar="COMMAND",
    help="What runs there from its start on: 'edgekit-runtime serve', 'edgekit-runtime deliver', or a program: "
    "'python /home/pi/loop.py'.",
)
@click.option("--app", help="The app that the program serves (default: that of edgekit.toml).")
@click.option(
    "--watchdog",
    "watchdog_s",
    metavar="SECONDS",
    type=click.IntRange(min=0),
    help="The service starts again when a program has inferred nothing for so long (default: 300), "
    "or a server (30) or courier (600) hangs; 0: never.",
)
@accept_option
@json_option
def setup(
    name: str | None,
    engine: str | None,
    offline: bool,
    accept_new_host_key: bool,
    as_json: bool,
    service: str | None,
    app: str | None,
    watchdog_s: int | None,
    **asked: bool,
) -> None:
    """Install the runtime and an engine on a device, and let it trust this host's bundles.

    The device gets an environment of its own under $EDGEKIT_HOME (default ~/.local/share/edgekit); nothing else on
    it is touched. Doing it again changes only what has to change. One engine is installed, the one that is asked
    for; another one of the target that an earlier setup has brought stays beside it, for a rollback may need it. What
    --server, --grpc and --train have brought stays, too.

    With --service, a command becomes a systemd unit that is started at boot, and again when it ends or hangs: a program
    edgekit-APP.service, which a push or rollback of the app starts anew; the server edgekit.service, which takes up
    releases by itself; the courier edgekit.courier.service, which delivers what is measured ('edgekit collect').
    'python' and 'edgekit-runtime' in COMMAND are those of edgekit's environment. Where others reach the server goes
    into fleet.toml, for 'edgekit export prometheus'.

    \b
    Examples:
      edgekit device setup kitchen --offline
      edgekit device setup kitchen --service 'python /home/pi/loop.py'
      edgekit device setup kitchen --service 'edgekit-runtime serve'
    """
    from edgekit import address, fleet, provision
    from edgekit import service as services
    from edgekit import target as targets
    from edgekit.cli.connect import connected

    entry, served = fleet.find(Path.cwd(), name), _service(service, app, watchdog_s)
    reached = address.of_server(entry, served.words[2:]) if served and served.server else None
    target = targets.load(entry.target)
    chosen, signer = provision.choose_engine(target, engine or _engine_of_bundle(target.name)), _signer()
    with progress(as_json) as tell, connected(entry, accept_new_host_key) as transport:

        def told(line: str) -> None:
            tell(f"{entry.name}: {line}")

        brought = _brought(served, asked)
        done = provision.setup(transport, target, chosen, signer, told, offline=offline, brought=brought)
        if done.installed:
            services.renew(transport, done.home)
        serving = services.install(transport, served) if served else None
    if reached is not None:
        fleet.serve(Path.cwd(), entry.name, reached)
    (_print if as_json else _show)(entry.name, done, serving)


def _print(name: str, done: Provisioned, serving: Installed | None) -> None:
    facts = {"engine": done.engine, "engine_version": done.version, "python": done.python}
    unit = {"unit": serving.unit, "note": serving.note} if serving else None
    told = {"installed": done.installed, "left_behind": list(done.left_behind), "trusted": done.trusted}
    print_json({"device": name, **facts, **told, "service": unit})


def _show(name: str, done: Provisioned, serving: Installed | None) -> None:
    what = "is set up" if done.installed else "was set up already"
    click.echo(f"{name}: {what}: Python {done.python}, {done.engine} {done.version}")
    if done.left_behind:
        click.echo(f"{name}: its environment is a new one, without {', '.join(done.left_behind)}: install it again")
    if serving:
        click.echo(f"{name}: {f'{serving.unit} is installed; ' if serving.unit else ''}{serving.note}")


def _brought(served: Service | None, asked: Mapping[str, bool]) -> Brought:
    """What is asked for by name, and what the service needs."""
    from edgekit.brought import Brought

    found = Brought(**asked)
    if served is None:
        return found
    return replace(found, server=found.server or served.server, courier=served.courier)


def _signer() -> Signer:
    from edgekit import project, signing

    key = project.load(Path.cwd()).signing_key
    return signing.signer(Path(key).expanduser() if key else None)


def _service(service: str | None, app: str | None, watchdog_s: int | None) -> Service | None:
    """What is to become a service, if anything is. Raises: ConfigError."""
    from edgekit import project
    from edgekit import service as services
    from edgekit.errors import ConfigError

    if service is None:
        return None
    if services.is_courier(service):
        return services.courier(watchdog_s)
    if services.is_server(service):
        if app:
            raise ConfigError("--app is for a program", f"name the apps of a server so: --service '{service} {app}'")
        return services.server(service, watchdog_s)
    served = app or project.load(Path.cwd()).app
    if not served:
        raise ConfigError("which app does the service serve?", "name it with --app, or as app in edgekit.toml")
    return services.program(served, service, watchdog_s)


def _engine_of_bundle(target: str) -> str | None:
    """The engine that the bundle built for this target needs, when there is one."""
    from edgekit import push
    from edgekit.cli.places import BUNDLES
    from edgekit.errors import BundleError
    from edgekit_runtime.bundle import open_layout

    try:
        return open_layout(push.find_bundle(Path(BUNDLES), target))[0].manifest.engines[0].name
    except BundleError:
        return None
