"""Gathering: devices are asked, and each of their updates is checked and kept, until a round is decided."""

from __future__ import annotations

import time
from contextlib import closing

from edgekit.errors import RoundError
from edgekit.federated.rounds import admission, deciding, inviting, private
from edgekit.federated.rounds.crowd import Crowd, Heard
from edgekit.federated.rounds.deciding import Decision
from edgekit.federated.rounds.round import CAME, HALTED, LATE, REFUSED, RUNNING, WAITING, Part, Round, Use
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.signatures import armoured
from edgekit.federated.rounds.ways import Ways


def gathered(round_: Round, crowd: Crowd, ways: Ways) -> Round:
    """Decided, or halted for want of updates; devices are asked until one of both is so."""
    until = time.monotonic() + round_.plan.deadline_s
    round_ = ways.book.note(round_, *(inviting.anew(part, ways) for part in round_.left))
    decision = _decision(round_, ways, over=not round_.of(WAITING))
    if decision.state == RUNNING == round_.state:
        round_, decision = _heard_out(round_, crowd, until, ways)
    if round_.state != RUNNING:
        return round_
    ways.line(f"round {round_.number}: {decision.line}")
    if decision.state == HALTED:
        return ways.book.turn(round_, HALTED, decision.line)
    return ways.book.choose(round_, _uses(round_, ways), deciding.broken(round_))


def _heard_out(round_: Round, crowd: Crowd, until: float, ways: Ways) -> tuple[Round, Decision]:
    """Once there is a decision, or somebody else has changed the round's state."""
    with closing(crowd.heard(round_.number, inviting.asks(round_, until, ways), until)) as answers:
        for heard in answers:
            round_ = _hear(round_, heard, ways) if heard else ways.book.note(round_)
            decision = _decision(round_, ways, over=False)
            if not decision.state == RUNNING == round_.state:
                return round_, decision
    return round_, _decision(round_, ways, over=True)


def _decision(round_: Round, ways: Ways, *, over: bool) -> Decision:
    least = private.strategy(round_.plan).without(deciding.broken(round_)).least
    return deciding.decide(round_, _uses(round_, ways), least, over=over)


def _uses(round_: Round, ways: Ways) -> tuple[Use, ...]:
    before = round_.follows if round_.plan.late else None
    return deciding.uses(round_, ways.book.find(round_.subject.project, before) if before else None)


def _hear(round_: Round, heard: Heard, ways: Ways) -> Round:
    """What is to be kept of an answer; that to a round before is noted there, unless another host had it in time."""
    if heard.number == round_.number:
        return _noted(round_, heard, CAME, ways)
    before = ways.book.find(round_.subject.project, heard.number)
    if heard.device not in {part.device for part in before.of(CAME)}:
        _noted(before, heard, LATE, ways)
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
