"""Rolling: a rollout carried on, wave by wave, from wherever it stands; what is learnt is kept before the next step.

So a host that is killed at any moment loses at most what devices had just answered, and who resumes asks them again: a
push of what is live already sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from edgekit import errand as errands
from edgekit import fanout, policy
from edgekit import push as pushing
from edgekit import target as targets
from edgekit.errand import FAILED, PUSHED, WITHDRAWN, Errand, Outcome
from edgekit.errors import ConfigError, EdgekitError, Unhealthy
from edgekit.fleet import Device
from edgekit.hooks import FOLDER
from edgekit.policy import Look
from edgekit.rollout import ABORTED, DONE, HALTED, RUNNING, WAITING, Part, Rollout
from edgekit.rollout_store import Book
from edgekit_runtime.bundle import Bundle

NAMED = 5
"""A wave of no more devices is told by their names."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ways:
    """What a rollout is carried on with: ``part`` hears of each device's outcome as it comes, ``line`` of the rest."""

    pool: Executor
    book: Book
    fleet: Mapping[str, Device]
    part: Callable[[Part], None]
    line: Callable[[str], None]
    pause: Callable[[float], None] = time.sleep


def parts(devices: Sequence[Device], bundle: Path | None, built: Path) -> tuple[Part, ...]:
    """What each device is to have: the bundle, or the one for its target below ``built``; not in waves yet.

    Raises: BundleError, DigestMismatch, IncompatibleTarget, ConfigError, before anything is sent.
    """
    opened: dict[str, Bundle] = {}
    for device in {device.target: device for device in devices}.values():
        folder = bundle or pushing.find_bundle(built, targets.load(device.target).name)
        parcel = pushing.open_parcel(folder.absolute())
        pushing.check_target(parcel, device)
        opened[device.target] = parcel.bundle
    each = ((device.name, opened[device.target]) for device in devices)
    return tuple(Part(name, 1, bundle.manifest.app, bundle.digest, str(bundle.root)) for name, bundle in each)


def carry_on(rollout: Rollout, ways: Ways) -> Rollout:
    """Until it is done, halted, or aborted by somebody else; devices that have passed already are left alone."""
    rollout = ways.book.turn(rollout, RUNNING)
    for wave in range(1, len(rollout.plan.waves) + 1):
        if rollout.state == RUNNING and (rollout.to_push(wave) or rollout.of_wave(wave, PUSHED)):
            rollout = _judge(_look(_push(rollout, wave, ways), wave, ways), wave, ways)
    return ways.book.turn(rollout, DONE) if rollout.state == RUNNING else rollout


def abort(rollout: Rollout, ways: Ways, *, back: bool) -> Rollout:
    """End it for good; ``back``: also take its devices back to the release before, as far as they still serve it."""
    rollout = ways.book.turn(rollout, ABORTED)
    there = [part for part in rollout.parts if back and part.facts and part.state != WITHDRAWN]
    for part, future in _sent(ways, errands.withdraw, rollout, there):
        outcome = _outcome(future)
        rollout = _noted(rollout, replace(part, state=outcome.state, error=outcome.error), ways)
    return rollout


def _push(rollout: Rollout, wave: int, ways: Ways) -> Rollout:
    """The wave's devices that lack the release, until one too many has failed."""
    again = (replace(part, state=WAITING, error=None) for part in rollout.to_push(wave) if part.state != WAITING)
    rollout = ways.book.note(rollout, *again)
    waiting, several = rollout.to_push(wave), len(rollout.plan.waves) > 1
    if several and waiting:
        names = ", ".join(part.device for part in waiting) if len(waiting) <= NAMED else f"{len(waiting)} devices"
        ways.line(f"wave {wave} of {len(rollout.plan.waves)}: {names}")

    def enough() -> bool:
        lost = several and policy.too_many(rollout.tally(wave), wave, rollout.plan.max_failed)
        return lost or rollout.state == ABORTED

    for part, future in _sent(ways, errands.deliver, rollout, waiting, enough):
        rollout = _noted(rollout, _after_push(part, _outcome(future)), ways)
    return rollout


def _judge(rollout: Rollout, wave: int, ways: Ways) -> Rollout:
    """What a wave has shown decides whether the next one comes. (There is nothing to decide about an only one.)"""
    plan = rollout.plan
    if rollout.state != RUNNING:
        return rollout
    if len(plan.waves) > 1:
        last = wave == len(plan.waves)
        decision = policy.decide(wave, rollout.tally(wave), plan.max_failed, last=last)
        rollout = ways.book.decide(rollout, decision)
        ways.line(f"wave {wave}: {decision.reasons[0]}")
        if not decision.go:
            return ways.book.turn(rollout, HALTED)
    return ways.book.note(rollout, *(replace(part, state=DONE) for part in rollout.of_wave(wave, PUSHED)))


def _look(rollout: Rollout, wave: int, ways: Ways) -> Rollout:
    """Before another wave comes, devices that took the release are looked at again, after a while of serving it."""
    plan, took = rollout.plan, rollout.of_wave(wave, PUSHED)
    lost = policy.too_many(rollout.tally(wave), wave, plan.max_failed)
    if lost or not took or not plan.wait_s or wave == len(plan.waves) or rollout.state != RUNNING:
        return rollout
    ways.line(f"looking on for {plan.wait_s:g} s")
    ways.pause(plan.wait_s)
    for part, future in _sent(ways, errands.look, rollout, took):
        surprise = future.exception()
        seen = Look(None, silent=str(surprise)) if surprise else future.result()
        if found := policy.faults(seen, part.release):
            error = Unhealthy("; ".join(found), "edgekit rollout show").as_dict()
            rollout = _noted(rollout, replace(part, state=FAILED, error=error), ways)
    return rollout


def _sent(
    ways: Ways,
    work: Callable[[Errand], Result],
    rollout: Rollout,
    parts: Iterable[Part],
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Part, Future[Result]]]:
    """The parts with what the work gave for their devices, as it comes."""
    known = {part.device: part for part in parts}
    for name in known.keys() - ways.fleet.keys():
        gone: Future[Result] = Future()
        gone.set_exception(ConfigError(f"no device {name!r} in fleet.toml any more", f"edgekit device add {name} …"))
        yield known.pop(name), gone
    sent = [_errand(part, ways.fleet[name], rollout) for name, part in known.items()]
    for errand, future in fanout.each(ways.pool, work, sent, enough):
        yield known[errand.device.name], future


def _errand(part: Part, device: Device, rollout: Rollout) -> Errand:
    """As any process of any folder can do it."""
    if device.target.endswith(".toml"):
        device = msgspec.structs.replace(device, target=str(Path(device.target).absolute()))
    hooks = str(FOLDER.absolute())
    return Errand(device, part.app, part.release, part.folder, rollout.plan.terms, hooks, part.previous)


def _outcome(future: Future[Outcome]) -> Outcome:
    """What the work gave; where it broke, as by the end of its process, that is the device's outcome."""
    surprise = future.exception()
    if surprise is None:
        return future.result()
    if isinstance(surprise, EdgekitError):
        return Outcome(FAILED, error=surprise.as_dict())
    code = "system" if isinstance(surprise, OSError) else "internal"
    return Outcome(FAILED, error={"code": code, "message": f"{type(surprise).__name__}: {surprise}", "hint": None})


def _after_push(part: Part, outcome: Outcome) -> Part:
    """What a first push told of the release before is kept: a second one meets the release itself."""
    facts = part.facts
    if outcome.facts:
        facts = {**outcome.facts, "previous": outcome.facts["previous"] or part.previous}
    return replace(part, state=outcome.state, facts=facts, error=outcome.error)


def _noted(rollout: Rollout, part: Part, ways: Ways) -> Rollout:
    rollout = ways.book.note(rollout, part)
    ways.part(part)
    return rollout
