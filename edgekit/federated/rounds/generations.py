"""Generations: the rounds that a release came of, and the float model that it was built from.

What was built of a round is what devices train on next, and so on: each generation is merged into what the one before
has left, down to the model that the project began with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.gate_store import Gates
from edgekit.federated.rounds.round import Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit.model import Model
from edgekit.passes import head


@dataclass(frozen=True)
class Generations:
    """What a store and this host's files know of a project's rounds. Raises: EdgekitError, RoundError."""

    book: Book
    gates: Gates
    project: str

    def of(self, release: str) -> tuple[Round, ...]:
        """The rounds whose builds led to a release, the oldest first; none for one that no round was built to."""
        found: list[Round] = []
        number = self.gates.maker(release)
        while number is not None and (not found or number < found[0].number):
            found.insert(0, self.book.find(self.project, number))
            number = self.gates.maker(found[0].subject.release)
        return tuple(found)

    def chain(self, round_: Round) -> tuple[Round, ...]:
        """The rounds that led to one, each begun with what the one before came to; it is the last."""
        found = [round_]
        while (before := _before(found[0])) is not None and before < found[0].number:
            found.insert(0, self.book.find(self.project, before))
        return tuple(found)

    def rounds(self, round_: Round) -> int:
        """How many led to its weights, since the head that the project's model came with."""
        ends = (*self.of(round_.subject.release), round_)
        return len({each.number for end in ends for each in self.chain(end)})

    def model_of(self, release: str, source: Model, folder: Path) -> Model:
        """The float model that a release was built from, in a file below ``folder``; ``source`` is the project's.

        Raises: also RoundError for files that are gone, ConversionError, InvalidInput, EngineError.
        """
        model = source
        for each in self.of(release):
            place = folder / str(each.number)
            place.mkdir()
            model = head.merged(model, Shelf(each.key).head(), place / source.path.name)
        return model


def _before(round_: Round) -> int | None:
    """The number of the round that one began with."""
    word, _, number = round_.source.partition(" ")
    return int(number) if word == "round" and number.isdecimal() else None
