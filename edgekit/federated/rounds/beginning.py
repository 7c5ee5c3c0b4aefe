"""Beginning: which model a round is about, and which weights it begins with."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgekit import fanout
from edgekit.counted import counted
from edgekit.errors import ConfigError, RoundError
from edgekit.federated.merging import HEADS, MOMENTS, SIGNATURE, Moments
from edgekit.federated.rounds import given, hidden, initial, private
from edgekit.federated.rounds.asking import Live, look
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.round import DONE, RUNNING, Part, Plan, Round, Subject
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.tasking import task
from edgekit.federated.strategy import State, Strategy
from edgekit.fleet import Device
from edgekit.model import Model
from edgekit.passes import head, training_tflite
from edgekit_train import family as families
from edgekit_train.update import Weights

MODEL = "model"
"""The word for the float model, on the command line and in a round's record."""
NAMED = 3
Init = Callable[[Subject], tuple[Weights, str]]
"""The weights that a trainer of somebody else's begins with, and where they come from, told."""


@dataclass(frozen=True)
class Start:
    """What the first round begins with, and where that came from, told."""

    state: State
    source: str


def live(devices: Sequence[Device], app: str, pool: Executor, *, accept_new_host_key: bool = False) -> Live:
    """The app, and the family of the releases of it that those devices serve which answer.

    Raises: ConfigError, RoundError.
    """
    work = partial(look, app=app, accept_new_host_key=accept_new_host_key)
    found = {device.name: future.result() for device, future in fanout.each(pool, work, devices)}
    return agreed({device.name: found[device.name] for device in devices})


def agreed(found: Mapping[str, Live]) -> Live:
    """What all of those serve that have answered. Raises: ConfigError, RoundError."""
    served: dict[Live, list[str]] = {}
    for name, each in found.items():
        if each.error is None:
            served.setdefault(each, []).append(name)
    if not served:
        first = next(iter(found.values())).error or {}
        raise RoundError(str(first.get("message")), first.get("hint"))
    if len(served) > 1:
        several = "; ".join(
            f"{each.app} of {families.told(each.family)}: {_names(names)}" for each, names in served.items()
        )
        raise ConfigError(
            f"these devices serve {counted(len(served), 'model')}: {several}", "choose devices of one with --to"
        )
    return next(iter(served))


@dataclass(frozen=True)
class Sources:
    """Where weights can come from. ``model``: the float model that the releases were built from; None for none.

    ``moments``: gives those of its features, as ``merging`` has them. ``init``: gives those of a trainer that the model
    has none for.
    """

    book: Book
    model: Model | None
    moments: Moments
    init: Init = initial.nowhere

    def start(self, subject: Subject, strategy: Strategy, source: str | None) -> Start:
        """``source``: a round's number, "model" or a safetensors file; None for the subject's last round, else model,
        or the trainer's own ``init``.

        Raises: ConfigError, RoundError, ConversionError.
        """
        before = self._round(subject, source)
        if before is not None:
            state, of = Shelf(before.key).result()
            if source is not None:
                given.check(f"round {before.number}", subject.trainer, state.weights, self.model)
            same = state if of == strategy.name else strategy.init(state.weights)
            return Start(same, f"round {before.number}")
        if source not in (None, MODEL):
            weights = _file(Path(str(source)))
            given.check(str(source), subject.trainer, weights, self.model)
            return Start(strategy.init(weights), str(source))
        if subject.trainer in (*HEADS, MOMENTS, SIGNATURE):
            return Start(strategy.init(self._of_the_model(subject.trainer)), MODEL)
        weights, told = initial.nowhere(subject) if source == MODEL else self.init(subject)
        return Start(strategy.init(weights), told)

    def _of_the_model(self, trainer: str) -> Weights:
        if self.model is None:
            hint = "write model = … there, or: --from FILE.safetensors"
            raise ConfigError("edgekit.toml names no model, which a round starts from", hint)
        if trainer == SIGNATURE:
            return training_tflite.weights_of(self.model)
        return self.moments(self.model) if trainer == MOMENTS else head.weights_of(self.model)

    def _round(self, subject: Subject, source: str | None) -> Round | None:
        if source is None:
            return self.book.last_done(subject)
        if not (source.isascii() and source.isdecimal()):
            return None
        found = self.book.find(subject.project, int(source))
        if found.state != DONE:
            raise ConfigError(f"round {found.number} is {found.state}, and has no weights", "edgekit round resume")
        return found


def begin(subject: Subject, plan: Plan, devices: Sequence[str], sources: Sources, source: str | None) -> Round:
    """A new round, with its files, once it is known that it can be asked for. Raises: ConfigError, RoundError."""
    strategy = private.strategy(plan)
    if strategy.least > len(devices):
        need = f"{plan.strategy} needs {counted(strategy.least, 'device')}, and {len(devices)} are meant"
        raise ConfigError(need, "select more with --to, or choose another strategy")
    begun = sources.start(subject, strategy, source)
    begun = Start(hidden.begun(subject.trainer, plan.config, begun.state, strategy), begun.source)
    key, parts = uuid.uuid4().hex, tuple(Part(name) for name in private.drawn(plan, devices))
    new = Round(0, key, subject, plan, RUNNING, 0.0, begun.source, parts)
    task(new, devices[0], begun.state.weights)
    Shelf(key).keep_start(begun.state, strategy.name)
    return sources.book.begin(new)


def _file(path: Path) -> Weights:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: no weights: {error}", "give a safetensors file of float32") from error
    return initial.parsed(path, data)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
