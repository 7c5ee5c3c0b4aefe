"""Running: a round carried on from wherever it stands, and those that follow it; what is learnt is kept before the next
step.

A host that is killed at any moment loses at most what devices had just answered, and who resumes asks them again: a
device that has learned already answers with the same update. What is combined is settled before it is, so that the
weights are the same, too.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace

from edgekit import fanout
from edgekit.errors import ConfigError, RoundError
from edgekit.federated.rounds import admission, combining, deciding, private, summing
from edgekit.federated.rounds.asking import Ask, forget
from edgekit.federated.rounds.book import Book
from edgekit.federated.rounds.crowd import Crowd, Heard
from edgekit.federated.rounds.deciding import Decision
from edgekit.federated.rounds.evaluating import Judge
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.ledger_book import LedgerBook
from edgekit.federated.rounds.round import (
    ABORTED,
    CAME,
    DECIDED,
    DONE,
    FAILED,
    HALTED,
    LATE,
    REFUSED,
    RUNNING,
    WAITING,
    Part,
    Round,
    Use,
)
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.signatures import armoured
from edgekit.federated.rounds.tasking import task
from edgekit.federated.strategy import Strategy
from edgekit.fleet import Device
from edgekit_train.device_key import digest_of

KEPT = 10
"""Rounds of a project that are over, and whose updates are kept to be inspected: a device's is as large as a model."""


@dataclass(frozen=True)
class Ways:
    """What rounds are carried on with. ``sign``: an SSHSIG of a digest, by this host's key.

    ``part`` hears of each device's outcome as it comes, ``ended`` of each round that is over, ``line`` of the rest.
    """

    pool: Executor
    book: Book
    keys: KeyBook
    ledgers: LedgerBook
    fleet: Mapping[str, Device]
    sign: Callable[[str], str]
    judge: Judge
    part: Callable[[Round, Part], None]
    ended: Callable[[Round], None]
    line: Callable[[str], None]


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
            round_ = ways.book.after(round_) or ways.book.begin(_allowed(follower(round_), ways))
    finally:
        crowd.leave()


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
    """The round that comes next, from where this one ended, of the same devices or drawn anew; its files are kept."""
    new, strategy = Shelf(uuid.uuid4().hex), _strategy(round_)
    new.keep_start(Shelf(round_.key).result()[0], strategy.name)
    plan = private.following(round_)
    parts = tuple(Part(name) for name in private.drawn(plan, [part.device for part in round_.parts]))
    source = f"round {round_.number}"
    return Round(0, new.key, round_.subject, plan, RUNNING, 0.0, source, parts, follows=round_.number)


def _one(round_: Round, crowd: Crowd, ways: Ways) -> Round:
    if round_.state in (RUNNING, HALTED):
        round_ = ways.book.turn(_allowed(round_, ways), RUNNING)
        round_ = _summed(round_, ways) if round_.plan.secure else _gathered(round_, crowd, ways)
    if round_.state == DECIDED:
        try:
            round_ = _combined(round_, ways)
        except RoundError as error:
            round_ = ways.book.turn(round_, HALTED, error.message)
    return round_


def _gathered(round_: Round, crowd: Crowd, ways: Ways) -> Round:
    """Decided, or halted for want of updates; devices are asked until one of both is so."""
    until = time.monotonic() + round_.plan.deadline_s
    round_ = ways.book.note(round_, *(_anew(part, ways) for part in round_.left))
    decision = _decision(round_, ways, over=not round_.of(WAITING))
    with closing(crowd.heard(round_.number, _asks(round_, until, ways), until)) as answers:
        while decision.state == RUNNING == round_.state:
            heard = next(answers, None)
            round_ = _hear(round_, heard, ways) if heard else round_
            decision = _decision(round_, ways, over=heard is None)
    if round_.state != RUNNING:
        return round_
    ways.line(f"round {round_.number}: {decision.line}")
    if decision.state == HALTED:
        return ways.book.turn(round_, HALTED, decision.line)
    return ways.book.choose(round_, _uses(round_, ways), deciding.broken(round_))


def _decision(round_: Round, ways: Ways, *, over: bool) -> Decision:
    least = _strategy(round_).without(deciding.broken(round_)).least
    return deciding.decide(round_, _uses(round_, ways), least, over=over)


def _summed(round_: Round, ways: Ways) -> Round:
    """Decided, with what the devices say together as its only update; or halted, where too few of them were left."""
    shelf, until = Shelf(round_.key), time.monotonic() + round_.plan.deadline_s
    weights = shelf.start().weights
    round_ = ways.book.note(round_, *(_anew(part, ways) for part in round_.parts))
    terms = summing.Terms(round_.key, private.size(weights), deciding.quorum(round_), ways.keys.known)
    found = summing.summed(list(_asks(round_, until, ways)), terms, until)
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
    data, examples = summing.mean(round_, found.total, weights)
    shelf.keep(summing.TOGETHER, data, "")
    return ways.book.choose(round_, [Use(round_.key, summing.TOGETHER, digest_of(data), examples)])


def _allowed(round_: Round, ways: Ways) -> Round:
    """The same, where the privacy budget allows it. Raises: PrivacySpent."""
    ways.ledgers.allow(round_)
    return round_


def _anew(part: Part, ways: Ways) -> Part:
    if part.device in ways.fleet:
        return Part(part.device, WAITING)
    gone = ConfigError(f"no device {part.device!r} in fleet.toml any more", f"edgekit device add {part.device} …")
    return Part(part.device, FAILED, error=gone.as_dict())


def _uses(round_: Round, ways: Ways) -> tuple[Use, ...]:
    before = round_.follows if round_.plan.late else None
    return deciding.uses(round_, ways.book.find(round_.subject.project, before) if before else None)


def _asks(round_: Round, until: float, ways: Ways) -> Iterator[Ask]:
    """What the devices that it has no update from are asked, each made as it is sent."""
    subject, weights = round_.subject, Shelf(round_.key).start().weights
    most, accept = admission.most_bytes(weights), round_.plan.accept_new_host_key
    for part in round_.of(WAITING):
        data, device = task(round_, part.device, weights), ways.fleet[part.device]
        signature, left = ways.sign(digest_of(data)), until - time.monotonic()
        yield Ask(device, subject.app, round_.key, data, signature, most, left, accept)


def _hear(round_: Round, heard: Heard, ways: Ways) -> Round:
    """What is to be kept of an answer; that to a round before is noted there."""
    if heard.number == round_.number:
        return _noted(round_, heard, CAME, ways)
    _noted(ways.book.find(round_.subject.project, heard.number), heard, LATE, ways)
    return round_


def _noted(round_: Round, heard: Heard, state: str, ways: Ways) -> Round:
    if heard.answer.state == CAME:
        part = _admitted(round_, heard, state, ways)
    else:
        part = Part(heard.device, heard.answer.state, error=heard.answer.error)
    round_ = ways.book.note(round_, part)
    ways.part(round_, part)
    return round_


def _admitted(round_: Round, heard: Heard, state: str, ways: Ways) -> Part:
    """An update is checked, put on the shelf, and only then told of."""
    device, answer, shelf = heard.device, heard.answer, Shelf(round_.key)
    expected = admission.expected(round_, shelf.start().weights)
    try:
        update, public = admission.admitted(device, answer, expected, ways.keys.known(device))
    except RoundError as error:
        return Part(device, REFUSED, error=error.as_dict())
    shelf.keep(device, answer.update, armoured(answer.signature))
    ways.keys.pin(device, public)
    return Part(device, state, admission.facts(answer, update))


def _combined(round_: Round, ways: Ways) -> Round:
    strategy, shelf = _strategy(round_).without(round_.broken), Shelf(round_.key)
    ways.ledgers.enter(round_)
    state = combining.combined(round_, strategy)
    shelf.keep_result(state, strategy.name)
    before, after = ways.judge(shelf.start().weights), ways.judge(state.weights)
    found = replace(combining.result(round_, state), clip=private.next_clip(round_))
    if before and after:
        found = replace(found, before=before.accuracy, accuracy=after.accuracy, samples=after.samples)
    return ways.book.finish(round_, found)


def _strategy(round_: Round) -> Strategy:
    return private.strategy(round_.plan)
