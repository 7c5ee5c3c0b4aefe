"""``edgekit device simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import json_option, print_json, progress


@click.command()
@click.argument("name")
@click.option("--target", help="What it stands for (default: the target called NAME, else generic, of this machine).")
@click.option("--card", "card_mib", metavar="MIB", type=click.IntRange(min=8), help="Give it a card of that size.")
@click.option(
    "--fault",
    type=click.Choice(["cut", "full", "read-only", "slow", "none"]),
    help="Let this befall its card; none ends it. A power cut is followed by a new start.",
)
@click.option("--stop", is_flag=True, help="Stop it and remove it, from fleet.toml too.")
@json_option
def simulate(name: str, target: str | None, stop: bool, as_json: bool, **card: Any) -> None:
    """Start a throw-away device on this machine, and write it into fleet.toml.

    A target of another architecture is emulated: Debian for aarch64 under qemu, with the board's processor, memory
    and SD card; the first time takes half a minute longer. It needs root, as does a card for any other device.

    Else, where OpenSSH's server is installed, it is a real sshd on the loopback, with a host key, a login key and an
    $EDGEKIT_HOME of its own; otherwise a folder without SSH. It says what it is.

    \b
    Example:
      edgekit device simulate desk
      edgekit device simulate raspberry-pi-4
      edgekit device simulate raspberry-pi-4 --fault cut
    """
    with progress(as_json) as tell:
        done = _stop(name) if stop else _start(name, target, card["card_mib"], card["fault"], tell)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{name}: {done['note']}; a {done['target']}" if done["running"] else f"{name}: stopped and removed")


def _stop(name: str) -> dict[str, Any]:
    from edgekit import fleet
    from edgekit import simulate as simulating
    from edgekit.cli.places import DEVICES
    from edgekit.errors import ConfigError

    fleet.load(Path.cwd())
    if not Path(DEVICES, name).exists():
        raise ConfigError(f"no simulated device {name!r} in {DEVICES}")
    simulating.stop(name, Path(DEVICES))
    fleet.remove(Path.cwd(), name)
    return {"device": name, "running": False}


def _start(name: str, target: str | None, card_mib: int | None, fault: str | None, tell: Any) -> dict[str, Any]:
    from edgekit import fleet
    from edgekit import simulate as simulating
    from edgekit import target as targets
    from edgekit.cli.places import DEVICES
    from edgekit.errors import ConfigError

    state, known = Path(DEVICES), {each.name: each for each in fleet.load(Path.cwd())}
    if name in known and not (state / name).exists():
        targets.load(target or known[name].target)
        raise ConfigError(f"fleet.toml has a device {name!r} already", "choose another name")
    kind = target or (known[name].target if name in known else _called(name))
    profile = targets.load(kind)
    fleet.check(fleet.Device(name, "local:/", kind))
    if fault == "cut":
        simulating.machine(name, state).cut()
    running = simulating.start(name, state, simulating.Kind.of(profile, card_mib), tell)
    fleet.add(Path.cwd(), fleet.Device(name, running.uri, kind), replace=True)
    if fault not in (None, "cut"):
        simulating.befall(name, state, str(fault))
    facts = {"uri": running.uri, "transport": running.kind, "emulated": running.emulated}
    return {"device": name, "running": True, **facts, "target": kind, "note": running.note}


def _called(name: str) -> str:
    """The target that a device of this name stands for."""
    import platform

    from edgekit import target as targets

    return name if name in targets.names() else f"generic-{platform.machine().replace('_', '-')}"
