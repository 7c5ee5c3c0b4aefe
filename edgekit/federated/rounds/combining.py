"""Combining: the updates that a round has settled on become weights. The same ones give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.errors import RoundError
from edgekit.federated.rounds.admission import most_bytes
from edgekit.federated.rounds.round import CAME, Result, Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.staleness import aged
from edgekit.federated.strategy import State, Strategy
from edgekit.federated.vectors import layout_of
from edgekit_train import update as updates
from edgekit_train.clipping import norm
from edgekit_train.update import Update


def combined(round_: Round, strategy: Strategy) -> State:
    """What the next round begins with. Raises: RoundError."""
    start = Shelf(round_.key).start()
    return strategy.aggregate(start, _updates(round_, most_bytes(start.weights)))


def result(round_: Round, state: State) -> Result:
    """Its figures, without those of an evaluation."""
    start = Shelf(round_.key).start()
    layout = layout_of(start.weights)
    moved = layout.flat(state.weights) - layout.flat(start.weights)
    updates = len(round_.of(CAME)) if round_.plan.secure else len(round_.used)
    return Result(updates, sum(use.examples for use in round_.used), round(norm({"": moved}), 6))


def _updates(round_: Round, most: int) -> Iterator[Update]:
    """One at a time, in the order that was settled."""
    for use in round_.used:
        data = Shelf(use.key).update(use.device, use.digest)
        try:
            update = updates.parse(data, most)
        except ValueError as error:  # it was whole when it came, and its digest is still the same
            raise RoundError(f"{use.device}: the update cannot be read: {error}") from error
        yield aged(update, use.behind)
