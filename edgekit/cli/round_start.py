"""``edgekit round start``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgekit.cli import round_privacy
from edgekit.cli.output import accept_option, json_option, to_option
from edgekit.cli.rollout import executor_option

if TYPE_CHECKING:
    from edgekit.federated.rounds.round import Plan


@click.command()
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
    from edgekit.cli.round_told import Teller, ending
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds import beginning, fitting, initial, running
    from edgekit.federated.rounds.round import Subject

    plan, devices, teller = _plan(how), devices_named(names), Teller(as_json)
    fitting.check(plan, len(devices), how["trainer"])
    if plan.secure and executor:
        raise ConfigError("a secure sum is conducted by this host alone", "leave --executor out")
    with ending(teller), desk(teller, executor) as here:
        accept = plan.accept_new_host_key
        live = beginning.live(devices, here.project.app or "", here.pool, accept_new_host_key=accept)
        subject, model = Subject(here.place, live.app, live.family, how["trainer"]), here.model(live.family)
        init = initial.Asking(devices, here.pool, accept).weights
        sources = beginning.Sources(here.book, model, here.moments, init)
        plan = here.hiding(plan, subject, [device.name for device in devices])
        begun = beginning.begin(subject, plan, [device.name for device in devices], sources, source)
        teller.begun(begun)
        running.carry_on(begun, here.ways(model, subject.trainer))


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
