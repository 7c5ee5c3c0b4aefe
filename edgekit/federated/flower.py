"""Flower: a strategy of ours as one of Flower's, so that its ServerApp combines what SuperNodes have learned.

Needs ``flwr``: the extra ``flower``. Any ClientApp does that answers with weights, as Flower's own strategies have it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowersStrategy

from edgekit.errors import BrokenUpdate, RoundError
from edgekit.federated.checks import Limits
from edgekit.federated.flower_replies import limits_of, medians, update_of
from edgekit.federated.strategies import clipped
from edgekit.federated.strategy import State, Strategy
from edgekit_train.flower_records import ARRAYS, CLIP, CONFIG, ROUND, record_of, weights_of
from edgekit_train.update import Weights

LOG = logging.getLogger("flwr")
"""Flower's, so that `flwr log` shows what is said."""


@dataclass
class _Came:
    """Of one round: the figures of each device that takes part, how many replies do not, and how many of these have
    given their devices away.
    """

    figures: list[dict[str, float]] = field(default_factory=list)
    refused: int = 0
    broken: int = 0


class FlowerStrategy(FlowersStrategy):  # type: ignore[misc]  # flwr is in an environment of its own
    """Each round goes to all nodes that are connected, as soon as there are ``nodes`` of them, and never fewer than the
    strategy needs. Replies that are late, or fail the checks, take no part; a round with too few others is refused,
    which leaves the weights as they were. Where nodes are told a ``delta-clip``, replies are held to
    it and count alike.

    The metrics of a round tell how many ``devices`` took part, how many replies were ``refused``, and the median of
    each figure that devices tell of their training.
    """

    def __init__(self, strategy: Strategy, nodes: int = 1, limits: Limits | None = None) -> None:
        """``limits``: of the checks; without any those of ``flower_replies.limits_of``."""
        self._strategy, self._limits = strategy, limits
        self._nodes = max(nodes, strategy.least)
        self._state: State | None = None
        self._told = ConfigRecord()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The weights and the settings, for each node."""
        self._state = self._begun(arrays)
        self._told = ConfigRecord({**config, **self._strategy.config, ROUND: server_round})
        content = RecordDict({ARRAYS: arrays, CONFIG: self._told})
        return [
            Message(content, message_type=MessageType.TRAIN, dst_node_id=node) for node in connected(grid, self._nodes)
        ]

    def _begun(self, arrays: ArrayRecord) -> State:
        """Flower hands the weights over anew each round; what the strategy remembers beside them is kept here."""
        weights = weights_of(arrays)
        return State(weights, self._state.moments) if self._state else self._strategy.init(weights)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """The next weights, or those before, and the metrics."""
        assert self._state, "a round begins with configure_train"
        came = _Came()
        try:
            self._state = self._aggregated(list(replies), self._state, came)
        except RoundError as error:
            LOG.warning("round %d is refused: %s", server_round, error)
            came.figures.clear()
        counts = {"devices": len(came.figures), "refused": came.refused}
        return record_of(self._state.weights), MetricRecord({**medians(came.figures), **counts})

    def _aggregated(self, replies: list[Message], state: State, came: _Came) -> State:
        """Each update is made twice, to be checked and to be combined, so that no two need to be in memory."""
        strategy = clipped(self._strategy) if CLIP in self._told else self._strategy
        limits = self._limits or limits_of(self._told, state.weights)
        sound = [reply for reply in replies if _is_sound(reply, state.weights, limits, came)]
        updates = (update_of(reply, state.weights, limits) for reply in sound)
        return strategy.without(came.broken).aggregate(state, updates)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """None: the model is evaluated where its evaluation data are, by ``evaluate_fn`` of ``start``."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Nothing was asked."""

    def summary(self) -> None:
        LOG.info("edgekit: %s, from %d nodes on", self._strategy.name, self._nodes)


def _is_sound(reply: Message, base: Weights, limits: Limits, came: _Came) -> bool:
    """Whether it may take part, which is counted; else it is said why not."""
    try:
        came.figures.append(update_of(reply, base, limits).metrics)
    except RoundError as error:
        came.refused += 1
        came.broken += isinstance(error, BrokenUpdate)
        LOG.warning("node %d takes no part: %s", reply.metadata.src_node_id, error)
        return False
    return True


def connected(grid: Grid, least: int, pause_s: float = 1.0) -> list[int]:
    """The nodes that are there, once there are as many; until then it waits."""
    nodes = sorted(grid.get_node_ids())
    if len(nodes) < least:
        LOG.info("waiting for nodes: %d of %d are connected", len(nodes), least)
    while len(nodes) < least:
        time.sleep(pause_s)
        nodes = sorted(grid.get_node_ids())
    return nodes
