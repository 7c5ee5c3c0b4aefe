"""Advice: what times that devices measured say about the next build. Values in, decisions out; nothing is run here.

Candidates are compared only on devices of one class, and only where calls enough were measured of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.advice.experience import LEAST_CALLS, Kind, Run, Timed, as_of, slower, timed


@dataclass(frozen=True)
class Line:
    """What would change for a class of devices in the next build: ``what`` is candidate, threads or engines.

    ``before`` and ``after`` name it, ``after`` is "" where there is not enough to say; ``why`` has the numbers;
    ``sure`` says on how many devices it rests.
    """

    target: str
    what: str
    before: str
    after: str
    why: str
    sure: str = ""

    @property
    def changes(self) -> bool:
        return bool(self.after) and self.before != self.after


def advise(target: str, threads: int, runs: Sequence[Run], alike: float) -> list[Line]:
    """Of runs of an app on devices of one class; at least one. ``threads``: what builds for it declare.

    ``alike``: from which multiple on a candidate is slower, see ``guard.SLOWER``.
    """
    kind, _ = Counter(run.kind for run in [run for run in runs if run.live] or runs).most_common(1)[0]
    known = timed(runs)
    now = next((each for each in known if each.kind == kind), None)
    if now is None:
        most = max(sum(run.buckets.values()) for run in runs if run.kind == kind)
        why = f"not enough calls to say: {most} of {_named(kind)} on one device, {LEAST_CALLS} are needed"
        return [Line(target, "candidate", _named(kind), "", why)]
    return [_candidate(target, now, known, alike), *_engines(target, known, alike), _threads(target, threads, now)]


def _candidate(target: str, now: Timed, known: Sequence[Timed], alike: float) -> Line:
    before = _named(now.kind)
    others = [each for each in known if each is not now]
    if not others:
        why = f"{now.told}; nothing else was measured there: push another precision to a few of them to know"
        return Line(target, "candidate", before, "", why, _sure(now))
    best = min((as_of(each, now) for each in others), key=lambda each: each.p50)
    against = f"{now.told}, against {_named(best.kind)}: {best.told}"
    if not slower(now, best, alike):
        return Line(
            target, "candidate", before, before, f"nothing there was faster beyond chance: {against}", _sure(now, best)
        )
    why = f"{now.p50 / best.p50:.2f} times as slow as {_named(best.kind)}: {against}"
    return Line(target, "candidate", before, _named(best.kind), why, _sure(now, best))


def _engines(target: str, known: Sequence[Timed], alike: float) -> list[Line]:
    """Where the same candidate ran on several engines of its format, and one is slower."""
    found = []
    for name in dict.fromkeys(each.name for each in known):
        same = sorted((each for each in known if each.name == name), key=lambda each: each.p50)
        if len(same) > 1 and slower(same[-1], same[0], alike):
            why = f"{name}: {same[0].told}, against {same[-1].engine}: {same[-1].told}"
            found.append(Line(target, "engines", same[-1].engine, same[0].engine, why, _sure(same[0], same[-1])))
    return found


def _threads(target: str, declared: int, now: Timed) -> Line:
    devices = len(now.devices)
    if 2 * now.agree <= devices:
        why = f"no number of threads is the fastest on more than half of {devices} devices"
        return Line(target, "threads", str(declared), str(declared), why, _devices(devices))
    why = f"{now.agree} of {devices} devices run {_named(now.kind)} fastest with {now.threads}, as their proofs found"
    return Line(target, "threads", str(declared), str(now.threads), why, _devices(devices))


def _named(kind: Kind) -> str:
    return f"{kind[1]}-{kind[2]} by {kind[3]}"


def _sure(*of: Timed) -> str:
    return _devices(min(len(each.devices) for each in of))


def _devices(number: int) -> str:
    return "one device" if number == 1 else f"{number} devices" + (", 95 %" if number > 5 else "")
