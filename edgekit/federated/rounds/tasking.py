"""Tasking: what a device of a round is asked, as the bytes of a task's file."""

from __future__ import annotations

from edgekit.errors import ConfigError
from edgekit.federated.rounds import hidden, private
from edgekit.federated.rounds.round import Plan, Round
from edgekit.federated.strategies import named
from edgekit_train import task as tasks
from edgekit_train.task import Task
from edgekit_train.update import Weights


def settings(trainer: str, plan: Plan) -> dict[str, float | int | str]:
    """What devices train with: a person's settings go before those that the strategy asks for.

    Raises: ConfigError, PluginError.
    """
    return {**named(plan.strategy, plan.options).config, **hidden.left(trainer, plan.config)}


def task(round_: Round, device: str, weights: Weights) -> bytes:
    """The same bytes each time.

    Raises: ConfigError for what no device takes, PluginError.
    """
    subject, plan = round_.subject, round_.plan
    config, names = settings(subject.trainer, plan), (subject.app, subject.family, round_.key, device, subject.trainer)
    secure = private.encoding(plan, len(round_.parts)) if plan.secure else None
    try:
        return tasks.dump(Task(*names, config, weights, plan.clip, plan.noise, plan.compression, secure))
    except ValueError as error:
        raise ConfigError(f"no device can be asked that: {error}", "look at edgekit round start --help") from error
