"""``edgekit device``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import accept_option, json_option, print_json, print_table, progress
from edgekit.cli.remove import remove
from edgekit.cli.simulate import simulate


@click.group()
def device() -> None:
    """Add, probe, set up, remove and simulate devices."""


@device.command()
@click.argument("name")
@click.argument("uri")
@click.option("--target", required=True, help="What it is: a target's name or alias, or your own .toml.")
@click.option("--tag", "tags", multiple=True, help="A word to select it by, such as site=berlin; repeatable.")
@json_option
def add(name: str, uri: str, target: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Write a device into fleet.toml.

    URI is ssh://[user@]host[:port], resolved as ssh does it, or local:/path/to/folder. Nothing is contacted.

    \b
    Example:
      edgekit device add kitchen ssh://pi@kitchen.local --target pi
    """
    from edgekit import fleet
    from edgekit import target as targets

    targets.load(target)
    entry = fleet.Device(name, uri, target, tags)
    fleet.add(Path.cwd(), entry)
    if as_json:
        print_json({"device": _entry(entry)})
    else:
        click.echo(f"added {name}; next: edgekit device setup {name}")


@device.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the devices of fleet.toml.

    \b
    Example:
      edgekit device list
    """
    from edgekit import fleet

    devices = fleet.load(Path.cwd())
    if as_json:
        print_json({"devices": [_entry(each) for each in devices]})
    else:
        print_table(("device", "target", "uri", "tags"), [(d.name, d.target, d.uri, " ".join(d.tags)) for d in devices])


def _entry(entry: Any) -> dict[str, Any]:
    told = {"name": entry.name, "uri": entry.uri, "target": entry.target, "tags": list(entry.tags)}
    return {**told, "server": entry.server or None}


@device.command()
@click.argument("name", required=False)
@accept_option
@json_option
def probe(name: str | None, accept_new_host_key: bool, as_json: bool) -> None:
    """Report what a device is: processor, OS, libc, Python, engines, memory, disk, JetPack.

    Works before anything is set up there; only python3 is needed.

    \b
    Example:
      edgekit device probe kitchen
    """
    from edgekit import device as devices
    from edgekit import fleet
    from edgekit.cli.connect import connected

    entry = fleet.find(Path.cwd(), name)
    with connected(entry, accept_new_host_key) as transport:
        facts = devices.probe(transport)
    facts.pop("schema_version", None)
    if as_json:
        print_json({"device": entry.name, "facts": facts})
    else:
        print_table(("fact", entry.name), [(key.replace("_", " "), _plain(value)) for key, value in facts.items()])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items() if version) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "unknown" if value is None else str(value)


@device.command()
@click.argument("name", required=False)
@click.option(
    "--engine", help="The engine to install (default: what the bundle for its target needs, else the target's first)."
)
@click.option("--server", is_flag=True, help="Bring what serves models over HTTP there ('edgekit-runtime serve').")
@click.option("--grpc", is_flag=True, help="Bring that with gRPC (8 MB).")
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
    server: bool,
    grpc: bool,
    offline: bool,
    accept_new_host_key: bool,
    as_json: bool,
    **service: Any,
) -> None:
    """Install the runtime and an engine on a device, and let it trust this host's bundles.

    The device gets an environment of its own under $EDGEKIT_HOME (default ~/.local/share/edgekit); nothing else on
    it is touched. Doing it again changes only what has to change. One engine is installed, the one that is asked
    for; another one of the target that an earlier setup has brought stays beside it, for a rollback may need it.

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
    from edgekit import address, fleet, project, provision, signing
    from edgekit import service as services
    from edgekit import target as targets
    from edgekit.cli.connect import connected

    entry, served = fleet.find(Path.cwd(), name), _service(**service)
    reached = address.of_server(entry, served.words[2:]) if served and served.server else None
    target = targets.load(entry.target)
    chosen = provision.choose_engine(target, engine or _engine_of_bundle(target.name))
    key = project.load(Path.cwd()).signing_key
    signer = signing.signer(Path(key).expanduser() if key else None)
    with progress(as_json) as tell, connected(entry, accept_new_host_key) as transport:
        done = provision.setup(
            transport,
            target,
            chosen,
            signer,
            lambda line: tell(f"{entry.name}: {line}"),
            offline=offline,
            server=server or (served is not None and served.server),
            grpc=grpc,
            courier=served is not None and served.courier,
        )
        if done.installed:
            services.renew(transport, done.home)
        serving = services.install(transport, served) if served else None
    if reached is not None:
        fleet.serve(Path.cwd(), entry.name, reached)
    if as_json:
        facts = {"engine": done.engine, "engine_version": done.version, "python": done.python}
        unit = {"unit": serving.unit, "note": serving.note} if serving else None
        outcome = {"installed": done.installed, "trusted": done.trusted, "service": unit}
        print_json({"device": entry.name, **facts, **outcome})
        return
    what = "is set up" if done.installed else "was set up already"
    click.echo(f"{entry.name}: {what}: Python {done.python}, {done.engine} {done.version}")
    if serving:
        click.echo(f"{entry.name}: {f'{serving.unit} is installed; ' if serving.unit else ''}{serving.note}")


def _service(service: str | None, app: str | None, watchdog_s: int | None) -> Any:
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


device.add_command(remove)
device.add_command(simulate)
