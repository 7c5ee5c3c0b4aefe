"""Deciding: whether a round waits, is combined or halts, and which updates are combined. Values in, a decision out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.counted import counted
from edgekit.errors import BrokenUpdate
from edgekit.federated.rounds.round import CAME, DECIDED, HALTED, LATE, REFUSED, RUNNING, Part, Round, Use


@dataclass(frozen=True)
class Decision:
    """``state``: of the round from now on; running while it waits."""

    state: str
    line: str


def decide(round_: Round, uses: tuple[Use, ...], least: int, *, over: bool) -> Decision:
    """What is to become of a running round that would combine ``uses``.

    ``least``: the strategy's. ``over``: nobody is waited for any longer. Late updates make no quorum, but they count
    for what the strategy needs; without one that is in time there is no round, unless nobody was drawn for it.
    """
    came = sum(not use.behind for use in uses)
    line = _told(came, len(uses) - came, len(round_.parts))
    enough = len(uses) >= least and (came > 0 or not round_.parts)
    if enough and (over or came >= quorum(round_)):
        return Decision(DECIDED, line)
    if over:
        need = f"{round_.plan.strategy} needs {counted(max(1, least), 'update')}"
        return Decision(HALTED, f"{line}; {need}")
    return Decision(RUNNING, line)


def quorum(round_: Round) -> int:
    """How many updates are enough not to wait for the rest."""
    return max(1, math.ceil(round_.plan.quorum * len(round_.parts) - 1e-9))


def uses(round_: Round, before: Round | None) -> tuple[Use, ...]:
    """The updates that would be combined now, one a device: those of the round, in the order of its devices.

    ``before``: the round that it follows, whose late updates are used where the plan says so, and where the device has
    sent nothing newer, sound or not. No older one is.
    """
    own = tuple(_use(round_, part, 0) for part in round_.of(CAME))
    if before is None or not round_.plan.late:
        return own
    silent = {part.device for part in round_.parts} - {part.device for part in round_.of(CAME, REFUSED)}
    late = (part for part in before.of(LATE) if part.device in silent)
    return own + tuple(_use(before, part, 1) for part in late)


def broken(round_: Round) -> int:
    """How many of its devices have given themselves away, and so are no liars that a strategy has to reckon with."""
    return sum((part.error or {}).get("code") == BrokenUpdate.code for part in round_.of(REFUSED))


def _use(round_: Round, part: Part, behind: int) -> Use:
    assert part.facts
    return Use(round_.key, part.device, part.facts.digest, part.facts.examples, behind)


def _told(came: int, late: int, asked: int) -> str:
    more = f" and {late} of the round before" if late else ""
    return f"{came} of {counted(asked, 'update')}{more}"
