"""Generations: the rounds that releases came of, and the float model that they were built from.

What was built of a round is what devices train on next, and so on: each generation is merged into what the one before
has left, down to the model that the project began with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.gate_store import Gates
from edgekit.federated.rounds.round import Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit.model import Model
from edgekit.passes import head
from edgekit_train import family as families


@dataclass(frozen=True)
class Generations:
    """What a store and this host's files know of a project's rounds. Raises: EdgekitError, RoundError."""

    book: Book
    gates: Gates
    project: str

    def of(self, family: str) -> tuple[Round, ...]:
        """The rounds whose builds led to a family of releases, the oldest first; none where no round did."""
        found: list[Round] = []
        number = self.gates.maker(family)
        while number is not None and (not found or number < found[0].number):
            found.insert(0, self.book.find(self.project, number))
            number = self.gates.maker(found[0].subject.family)
        return tuple(found)

    def chain(self, round_: Round) -> tuple[Round, ...]:
        """The rounds that led to one, each begun with what the one before came to; it is the last."""
        found = [round_]
        while (before := _before(found[0])) is not None and before < found[0].number:
            found.insert(0, self.book.find(self.project, before))
        return tuple(found)

    def rounds(self, round_: Round) -> int:
        """How many led to its weights, since the head that the project's model came with."""
        ends = (*self.of(round_.subject.family), round_)
        return len({each.number for end in ends for each in self.chain(end)})

    def model_of(self, family: str, source: Model, folder: Path) -> Model:
        """The float model that releases were built from, in a file below ``folder``; ``source`` is the project's.

        Raises: also ConfigError for a project whose model is another by now, RoundError for files that are gone,
        ConversionError, InvalidInput, EngineError.
        """
        rounds, model = self.of(family), source
        _check_source(rounds[0].subject.family if rounds else family, source)
        for each in rounds:
            place = folder / str(each.number)
            place.mkdir()
            model = head.merged(model, Shelf(each.key).head(), place / source.path.name)
        return model


def _check_source(first: str, source: Model) -> None:
    """That the first of these families was built from it."""
    told = families.model(first)
    if told is not None and told != source.digest:
        raise ConfigError(
            f"{source.path.name} is not the model that the devices' release was built from: it is {source.digest[:19]},"
            f" that was {told[:19]}",
            "build and push it first, or name that model in edgekit.toml",
        )


def _before(round_: Round) -> int | None:
    """The number of the round that one began with."""
    word, _, number = round_.source.partition(" ")
    return int(number) if word == "round" and number.isdecimal() else None
