"""``edgekit round``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import round_privacy
from edgekit.cli.output import accept_option, json_option, print_json, to_option
from edgekit.cli.rollout import executor_option, number_argument
from edgekit.cli.round_build import build
from edgekit.cli.round_inspect import inspect

if TYPE_CHECKING:
    from edgekit.cli.round_told import Teller
    from edgekit.federated.rounds.round import Plan


@click.group(name="round")
def round_() -> None:
    """Let devices learn from their own samples, and combine what they send."""


round_.add_command(build)
round_.add_command(inspect)


@round_.command()
@to_option
@click.option("--strategy", default="fedavg", show_default=True, help="How updates become weights.")
@click.option("--option", "options", multiple=True, metavar="NAME=NUMBER", help="Of the strategy: liars=2; repeatable.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many, one upon another.")
@click.option("--quorum", metavar="SHARE", help="As many are enough not to wait: 80%, or all with central noise.")
@click.option("--deadline", default="10m", show_default=True, metavar="TIME", help="Nobody is waited for any longer.")
@click.option("--late", is_flag=True, help="Use what comes too late for a round in the next one, with less weight.")
@click.option("--trainer", default="head", show_default=True, help="head, mlp, bias, moments, signature, or another.")
@click.option("--set", "config", multiple=True, metavar="NAME=VALUE", help="Of the trainer: rate=0.05; repeatable.")
@click.option("--compress", help="Send int8, or the largest numbers only: 1%.")
@click.option("--from", "source", metavar="WHAT", help="Begin with: model, a round's ID, or a safetensors file.")
@round_privacy.options
@executor_option
@accept_option
@json_option
def start(names: tuple[str, ...], source: str | None, executor: str | None, as_json: bool, **how: Any) -> None:
    """Have devices learn from the samples that they have kept, and combine what they send.

    Each device trains what comes behind the backbone of the release that it serves, and sends the change of the
    weights, signed; its samples stay there. Updates are checked, kept, and combined when the quorum is there or the
    deadline has passed. It begins with what the last round of this model came to, or else with the head of the
    model; with a trainer of your own, with what its init gives on the first device that answers. 'edgekit round build'
    makes a bundle of it. Where too few devices answer for the strategy, the exit status is 3. Without --to, all
    devices of the fleet.

    \b
    Examples:
      edgekit round start --to site=berlin --rounds 5 --set rate=0.02
      edgekit round start --strategy multi-krum --option liars=2 --compress int8
      edgekit round start --trainer mlp --set hidden=64
      edgekit round start --rounds 30 --clip auto --privacy central --epsilon 8 --delta 1e-3 --sample 0.5
      edgekit round start --clip 1.0 --secure
    """
    from edgekit.cli.connect import devices_named
    from edgekit.cli.round_desk import desk
    from edgekit.cli.round_told import Teller
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds import beginning, fitting, initial, running
    from edgekit.federated.rounds.round import Subject

    plan, devices, teller = _plan(how), devices_named(names), Teller(as_json)
    fitting.check(plan, len(devices), how["trainer"])
    if plan.secure and executor:
        raise ConfigError("a secure sum is conducted by this host alone", "leave --executor out")
    with _ending(teller), desk(teller, executor) as here:
        accept = plan.accept_new_host_key
        live = beginning.live(devices, here.project.app or "", here.pool, accept_new_host_key=accept)
        subject, model = Subject(here.place, live.app, live.family, how["trainer"]), here.model(live.family)
        init = initial.Asking(devices, here.pool, accept).weights
        sources = beginning.Sources(here.book, model, here.moments, init)
        plan = here.hiding(plan, subject, [device.name for device in devices])
        begun = beginning.begin(subject, plan, [device.name for device in devices], sources, source)
        teller.begun(begun)
        running.carry_on(begun, here.ways(model, subject.trainer))


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
    from edgekit.cli.round_told import Teller
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds import running
    from edgekit.federated.rounds.round import ABORTED

    teller = Teller(as_json)
    with _ending(teller), desk(teller, executor) as here:
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
        print_json({"rounds": [round_told.document(found, gated) | round_privacy.document(found)]})
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
        print_json({"rounds": [round_told.document(ended) | round_privacy.document(ended)]})
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


def _plan(how: dict[str, Any]) -> Plan:
    """Raises: ConfigError."""
    from edgekit import waves
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds import spelling
    from edgekit.federated.rounds.round import QUORUM, Plan

    clip, adaptive = round_privacy.clip(how["clip"])
    if how["noise"] and not clip:
        raise ConfigError("noise without a clip hides nothing", "add --clip 1.0")
    privacy = round_privacy.privacy(how)
    quorum = 1.0 if privacy and privacy.central else QUORUM
    return Plan(
        how["strategy"],
        spelling.numbers(how["options"]),
        spelling.settings(how["config"]),
        clip,
        how["noise"],
        spelling.compression(how["compress"]) if how["compress"] else None,
        waves.share(how["quorum"]) if how["quorum"] else quorum,
        spelling.deadline(how["deadline"]),
        how["rounds"] - 1,
        how["late"],
        how["accept_new_host_key"],
        adaptive,
        privacy,
        how["secure"],
    )


@contextmanager
def _ending(teller: Teller) -> Iterator[None]:
    """Behind the block: what came of the rounds that it has carried on, and the exit status; also before an error."""
    from edgekit.cli import round_told
    from edgekit.errors import EdgekitError

    failed: dict[str, Any] = {}
    try:
        yield
        status = round_told.status(teller.rounds)
    except EdgekitError as error:
        if not (teller.as_json and teller.rounds):
            raise
        failed, status = {"error": error.as_dict()}, error.exit_code
        click.echo(f"edgekit: {error}", err=True)
    if teller.as_json:
        rounds = [round_told.document(each) | round_privacy.document(each) for each in teller.rounds]
        print_json({"rounds": rounds, **failed})
    if status:
        raise SystemExit(status)
