"""How ``edgekit round start`` is asked to hide devices, and how what that has spent is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgekit.federated.privacy.ledger import Ledger
    from edgekit.federated.rounds.measures import Privacy
    from edgekit.federated.rounds.round import Plan, Round

Command = TypeVar("Command", bound=Callable[..., Any])
AUTO = "auto"


class _Finite(click.FloatRange):
    """A plain one lets NaN through, which is neither above nor below, and infinity where no most is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is no number to reckon with.", param, ctx)
        return number


_POSITIVE, _SHARE = _Finite(min=0, min_open=True), _Finite(min=0, min_open=True, max=1)
_BELOW_ONE = _Finite(min=0, min_open=True, max=1, max_open=True)


def options(command: Command) -> Command:
    """Those of ``round start`` that hide devices, behind its others."""
    for option in reversed(
        (
            click.option(
                "--clip",
                metavar="NUMBER|auto",
                help="How long what a device has learned may be (L2); auto: as half are.",
            ),
            click.option(
                "--privacy", type=click.Choice(["central", "local"]), help="Who adds noise: this host, or each device."
            ),
            click.option(
                "--epsilon", type=_POSITIVE, help="What all rounds of the app together may tell of a device: 8."
            ),
            click.option("--delta", type=_BELOW_ONE, help="With this probability they may tell more: 1e-3."),
            click.option("--sample", type=_SHARE, help="Each device takes part by chance, with this probability: 0.5."),
            click.option(
                "--noise",
                type=_POSITIVE,
                help="Deviation on each number; with central privacy: of the sum, in clips. Else as the budget asks.",
            ),
            click.option("--secure", is_flag=True, help="Learn the sum of what devices say, and no part of it."),
        )
    ):
        command = option(command)
    return command


def clip(text: str | None) -> tuple[float | None, bool]:
    """How long a delta may be, and whether that follows the devices. Raises: ConfigError."""
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds.private import BOUND

    if text is None or text == AUTO:
        return (BOUND, True) if text else (None, False)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"{text!r} is no clip", "write --clip 1.0, or --clip auto")
    return number, False


def privacy(how: Mapping[str, Any]) -> Privacy | None:
    """What is asked for. Raises: ConfigError."""
    from edgekit.errors import ConfigError
    from edgekit.federated.rounds.measures import Privacy

    budget = (how["epsilon"], how["delta"])
    if how["privacy"] is None:
        if budget != (None, None) or how["sample"] is not None:
            raise ConfigError("a budget is of noise, and so is --sample", "add --privacy central, or local")
        return None
    if None in budget:
        raise ConfigError("noise is for a budget", "add --epsilon 8 --delta 1e-3")
    return Privacy(how["privacy"], *budget, how["sample"] or 1.0)


def told(plan: Plan, ledger: Ledger) -> str:
    """One line: how devices are hidden, and what of the budget is spent."""
    assert plan.privacy
    by = f"noise {plan.privacy.noise:.3g}, clip {plan.clip:.3g}"
    chance = f", each of {len(plan.privacy.among)} devices with probability {plan.privacy.rate:g}"
    drawn = chance if plan.privacy.rate < 1 else ""
    spent = f"ε = {ledger.spent:.3g} of {ledger.budget.epsilon:g} spent at δ = {ledger.budget.delta:g}"
    return f"{plan.privacy.kind} privacy: {spent}; {by}{drawn}"


def show(round_: Round) -> None:
    if spent := _ledger(round_):
        click.echo(told(round_.plan, spent))


def document(round_: Round) -> dict[str, Any]:
    """What `--json` has besides of a round: what its app has spent by now."""
    spent, asked = _ledger(round_), round_.plan.privacy
    if spent is None or asked is None:
        return {"privacy": None}
    names = ("kind", "epsilon", "delta", "rate", "noise")
    return {"privacy": {**{name: getattr(asked, name) for name in names}, "spent": spent.spent}}


def _ledger(round_: Round) -> Ledger | None:
    """None for a round that spends nothing. Raises: EdgekitError."""
    from edgekit.cli.round_desk import ledgers

    if round_.plan.privacy is None:
        return None
    with ledgers() as book:
        return book.ledger(round_.subject, round_.plan.privacy)
