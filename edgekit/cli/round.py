"""``edgekit round``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import round_privacy
from edgekit.cli.output import accept_option, json_option, print_json
from edgekit.cli.rollout import executor_option, number_argument
from edgekit.cli.round_build import build
from edgekit.cli.round_inspect import inspect
from edgekit.cli.round_start import start


@click.group(name="round")
def round_() -> None:
    """Let devices learn from their own samples, and combine what they send."""


round_.add_command(start)
round_.add_command(build)
round_.add_command(inspect)


@round_.command()
@number_argument
@executor_option
@json_option
def resume(number: int | None, executor: str | None, as_json: bool) -> None:
    """Carry on a round that halted or was interrupted, and those that were to follow it.

    Without ID, the project's last one. Devices that have sent their update are left alone; the others are asked again,
    with the deadline from now on. One that has learned already sends what it has.

    \b
    Example:
      edgekit round resume
    """
    from edgekit.cli.round_desk import desk
    from edgekit.cli.round_told import Teller, ending
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds import running
    from edgekit.federated.rounds.round import ABORTED

    teller = Teller(as_json)
    with ending(teller), desk(teller, executor) as here:
        found = here.book.find(here.place, number)
        if found.state == ABORTED:
            raise ConfigError(f"round {found.number} was aborted", "edgekit round start")
        model = here.model(found.subject.family)
        running.carry_on(found, here.ways(model, found.subject.trainer))


@round_.command()
@number_argument
@json_option
def show(number: int | None, as_json: bool) -> None:
    """Show a round: its devices, what each sent or why it did not, and what came of it.

    Without ID, the project's last one.

    \b
    Example:
      edgekit round show
    """
    from edgekit.cli import round_told
    from edgekit.cli.round_desk import generations

    with generations() as known:
        found = known.book.find(known.project, number)
        gated = known.gates.of([found.number]).get(found.number)
    if as_json:
        print_json({"rounds": [round_told.document(found, gated)]})
    else:
        round_told.show(found, gated)
        round_privacy.show(found)


@round_.command()
@number_argument
@executor_option
@json_option
def abort(number: int | None, executor: str | None, as_json: bool) -> None:
    """End a round for good; where it is under way, nothing is combined any more.

    Without ID, the project's last one. Devices that can be reached remove what it left there.

    \b
    Example:
      edgekit round abort
    """
    from edgekit.cli import round_told
    from edgekit.cli.round_desk import desk
    from edgekit.federated.rounds import running

    with desk(round_told.Teller(as_json), executor) as here:
        found = here.book.find(here.place, number)
        ended = running.abort(found, here.pool, here.book, here.fleet)
    if as_json:
        print_json({"rounds": [round_told.document(ended)]})
    else:
        click.echo(f"round {ended.number}: {ended.state}")


@round_.command()
@click.argument("name", metavar="DEVICE")
@accept_option
@json_option
def trust(name: str, accept_new_host_key: bool, as_json: bool) -> None:
    """Take updates that a device signs with the key that it has now, whatever key it had before.

    The key of a device is known from its first update on, and one by another key is refused: a device that was set up
    anew has a new one.

    \b
    Example:
      edgekit round trust kitchen
    """
    from edgekit import fleet
    from edgekit.cli.round_desk import keys
    from edgekit.federated.rounds import asking, signatures

    device = fleet.find(Path.cwd(), name)
    public = asking.key(device, accept_new_host_key=accept_new_host_key)
    with keys() as known:
        known.trust(device.name, public)
    if as_json:
        print_json({"device": device.name, "fingerprint": signatures.fingerprint(public), "public": public})
    else:
        click.echo(f"{device.name}: {signatures.fingerprint(public)}")
