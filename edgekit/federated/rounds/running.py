"""Running: a round carried on from wherever it stands, and those that follow it; what is learnt is kept before the next
step.

A host that is killed at any moment loses at most what devices had just answered, and who resumes asks them again: a
device that has learned already answers with the same update. What is combined is settled before it is, so that the
weights are the same, too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace

from edgekit import fanout
from edgekit.errors import ConfigError, RoundError
from edgekit.federated.rounds import combining, gathering, private, secure
from edgekit.federated.rounds.asking import Ask, forget
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.crowd import Crowd
from edgekit.federated.rounds.round import ABORTED, DECIDED, DONE, HALTED, RUNNING, Part, Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.ways import Ways
from edgekit.fleet import Device

KEPT = 10
"""Rounds of a project that are over, and whose updates are kept to be inspected: a device's is as large as a model."""


def carry_on(round_: Round, ways: Ways) -> Round:
    """Until it is done, halted, or aborted by somebody else, and so are those that follow it; the last of them."""
    crowd = Crowd(ways.pool)
    try:
        while True:
            round_ = _one(round_, crowd, ways)
            ways.ended(round_)
            for key in ways.book.older(round_.subject.project, KEPT):
                Shelf(key).drop_updates()
            if round_.state != DONE or not round_.plan.more:
                return round_
            round_ = ways.book.after(round_) or _followed(round_, ways)
    finally:
        crowd.leave()


def _followed(round_: Round, ways: Ways) -> Round:
    """The round that comes next, begun. Raises: PrivacySpent; then nothing of it is kept."""
    new = follower(round_)
    ways.ledgers.check(new)
    Shelf(new.key).keep_start(Shelf(round_.key).result()[0], private.strategy(round_.plan).name)
    return ways.book.begin(new)


def abort(round_: Round, pool: Executor, book: Book, fleet: Mapping[str, Device]) -> Round:
    """End it for good, and have devices that can be reached remove what it left there. Raises: ConfigError."""
    ended = book.turn(round_, ABORTED)
    if ended.state == DONE:
        raise ConfigError(f"round {ended.number} is done", "edgekit round start --from model begins anew")
    accept, key, app = ended.plan.accept_new_host_key, ended.key, ended.subject.app
    known = [fleet[part.device] for part in ended.parts if part.device in fleet]
    for _ in fanout.each(pool, forget, [Ask(device, app, key, b"", "", 0, 0.0, accept) for device in known]):
        pass
    return ended


def follower(round_: Round) -> Round:
    """The round that comes next, from where this one ended, of the same devices or drawn anew."""
    plan = private.following(round_)
    parts = tuple(Part(name) for name in private.drawn(plan, [part.device for part in round_.parts]))
    source = f"round {round_.number}"
    return Round(0, uuid.uuid4().hex, round_.subject, plan, RUNNING, 0.0, source, parts, follows=round_.number)


def _one(round_: Round, crowd: Crowd, ways: Ways) -> Round:
    if round_.state in (RUNNING, HALTED):
        ways.ledgers.allow(round_)
        round_ = ways.book.turn(round_, RUNNING)
    if round_.state == RUNNING:
        round_ = secure.summed(round_, ways) if round_.plan.secure else gathering.gathered(round_, crowd, ways)
    if round_.state == DECIDED:
        try:
            round_ = _combined(round_, ways)
        except RoundError as error:
            Shelf(round_.key).drop_result()
            round_ = ways.book.turn(round_, HALTED, error.message)
    return round_


def _combined(round_: Round, ways: Ways) -> Round:
    strategy, shelf = private.strategy(round_.plan).without(round_.broken), Shelf(round_.key)
    ways.ledgers.enter(round_)
    state = shelf.keep_result(lambda: combining.combined(round_, strategy), strategy.name)
    before = ways.judge(shelf.start().weights)
    after = before and ways.judge(state.weights)
    found = replace(combining.result(round_, state), clip=private.next_clip(round_))
    if before and after:
        found = replace(found, before=before.accuracy, accuracy=after.accuracy, samples=after.samples)
    return ways.book.finish(round_, found)
