"""Secure: a round whose devices say together what they have learned, and its host no more than that."""

from __future__ import annotations

import time

from edgekit.errors import RoundError
from edgekit.federated.rounds import deciding, inviting, private, summing
from edgekit.federated.rounds.round import CAME, HALTED, RUNNING, Round, Use
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.ways import Ways
from edgekit_train.device_key import digest_of
from edgekit_train.letters import LEAST

GIVEN = "secure aggregation: the sum is lost, and devices that have given their part of it do not give it again"


def summed(round_: Round, ways: Ways) -> Round:
    """Decided, with what the devices say together as its only update; or halted, where too few of them were left."""
    shelf, until = Shelf(round_.key), time.monotonic() + round_.plan.deadline_s
    weights = shelf.start().weights
    round_ = ways.book.note(round_, *(inviting.anew(part, ways) for part in round_.left))
    if round_.state == RUNNING and round_.of(CAME):  # its sum is not on the shelf
        return ways.book.turn(round_, HALTED, GIVEN)
    enough = max(LEAST, deciding.quorum(round_))  # fewer have no sum, however early they are
    terms = summing.Terms(round_.key, private.size(weights), enough, ways.keys.known)
    found = summing.summed(list(inviting.asks(round_, until, ways)), terms, until)
    for name, letter in found.masked.items():
        shelf.keep(name, letter, "")
        ways.keys.pin(name, found.keys[name])
    round_ = ways.book.note(round_, *found.parts)
    for part in found.parts:
        ways.part(round_, part)
    if round_.state != RUNNING:
        return round_
    if found.total is None:
        return ways.book.turn(round_, HALTED, found.reason)
    try:
        data = summing.mean(round_, found.total, weights)
    except RoundError as error:
        return ways.book.turn(round_, HALTED, error.message)
    shelf.keep(summing.TOGETHER, data, "")
    return ways.book.choose(round_, [Use(round_.key, summing.TOGETHER, digest_of(data), 0)])
