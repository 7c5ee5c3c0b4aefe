"""Fitting: which measures go together, so that what does not is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgekit.errors import ConfigError, InvalidInput
from edgekit.federated.merging import HEADS, MOMENTS, SIGNATURE
from edgekit.federated.rounds import private, tasking
from edgekit.federated.rounds.hidden import Config
from edgekit.federated.rounds.round import Plan
from edgekit_train import normalization, settings, signature_trainer
from edgekit_train.letters import LEAST

SETTINGS: dict[str, Callable[[Config], object]] = {
    **dict.fromkeys(HEADS, settings.of),
    MOMENTS: normalization.check_settings,
    SIGNATURE: signature_trainer.settings_of,
}
"""What looks at the settings on devices, by the trainer; those of others are known there alone."""


def check(plan: Plan, devices: int, trainer: str) -> None:
    """That the plan's parts go together. Raises: ConfigError, PluginError, RoundError for the strategy."""
    for what, hint in (*_wrong(plan), *_wrong_in_a_sum(plan, devices)):
        raise ConfigError(what, hint)
    if "proximal" in private.strategy(plan).config and trainer in (MOMENTS, SIGNATURE):
        raise ConfigError(f"{plan.strategy} asks for a proximal term, and {trainer} has none", "--strategy fedavg")
    _check_settings(plan, trainer)


def _check_settings(plan: Plan, trainer: str) -> None:
    """That devices take them: where one refuses them, its noise is entered by then. Raises: ConfigError."""
    try:
        SETTINGS.get(trainer, dict)(tasking.settings(trainer, plan))
    except InvalidInput as error:
        raise ConfigError(f"trainer {trainer}: {error.message}", error.hint) from error


def _wrong(plan: Plan) -> Iterator[tuple[str, str]]:
    """What does not go together, and what to do."""
    if plan.clip is None and (plan.privacy or plan.secure):
        yield "noise and sums hide no more than a clip", "add --clip 1.0"
    if _sampled(plan) and not plan.central:
        yield "--sample hides devices from who sees the model", "add --privacy central"
    if plan.late and (plan.privacy or plan.secure):
        yield "an update that came late counts in a round that it was not drawn for", "leave --late out"
    if plan.central and plan.quorum < 1:
        why = "under central noise who answers early would push another one out, and move the sum by two devices"
        yield why, "leave --quorum out: all are waited for, until the --deadline"
    if plan.adaptive and (plan.secure or _own_noise(plan)):
        yield "--clip auto asks what these measures hide", "write --clip 1.0"


def _wrong_in_a_sum(plan: Plan, devices: int) -> Iterator[tuple[str, str]]:
    if plan.secure and _own_noise(plan):
        yield "a secure sum holds no local noise", "leave one of both out"
    if plan.secure and plan.compression:
        yield "masked numbers have no small form", "leave --compress or --secure out"
    if plan.secure and _sampled(plan):
        yield "devices of a secure sum know who else takes part, and so who was drawn", "leave --sample or --secure out"
    if plan.secure and devices < LEAST:
        yield f"a sum of {devices} hides nobody", f"select {LEAST} devices with --to, or more"


def _sampled(plan: Plan) -> bool:
    return plan.privacy is not None and plan.privacy.rate < 1


def _own_noise(plan: Plan) -> bool:
    """Whether devices add some, within a budget or without one."""
    return plan.noise is not None if plan.privacy is None else not plan.central
