"""Learning: a target as its devices have shown it, and what they are expected to take for a candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edgekit.advice.experience import Source, Timed, expected
from edgekit.building.latency import Latency
from edgekit.target import EngineChoice, Target


@dataclass(frozen=True)
class OnDevices:
    """What devices of the target took for such a candidate: how many of them, and of how many calls."""

    latency_ms: Latency
    devices: int
    calls: int

    @property
    def counted(self) -> str:
        return "a device" if self.devices == 1 else f"{self.devices} devices"

    @property
    def told(self) -> str:
        return f"{self.latency_ms.p50:.3g} ms of {self.calls} calls on {self.counted}"


@dataclass(frozen=True)
class Learned:
    """``target``: with the threads and the order of engines that its devices are fastest with; ``notes`` say why."""

    target: Target
    notes: tuple[str, ...] = ()


def on_devices(known: Sequence[Timed], name: str, engine: str, model: Source) -> OnDevices | None:
    """For a candidate of a model, by its name; None for what no device of the class ran."""
    found = expected(known, name, engine, model)
    if found is None:
        return None
    latency = Latency(*(round(each, 4) for each in (found.p50, found.p95, found.low, found.high)))
    return OnDevices(latency, len(found.devices), found.calls)


def profile(target: Target, known: Sequence[Timed]) -> Learned:
    """What the next build for a target is to be, of what devices of its class showed."""
    own = [each for each in known if each.target == target.name]
    if not own:
        return Learned(target)
    threads, engines = _threads(target, own), _engines(target, own)
    notes = []
    if threads != target.threads:
        notes.append(f"{threads} threads instead of {target.threads}: most devices are fastest so")
    if engines != target.engines:
        names = ", ".join(each.name for each in engines)
        notes.append(f"engines in the order {names}: of one format the fastest on devices comes first")
    return Learned(msgspec.structs.replace(target, threads=threads, engines=engines), tuple(notes))


def _threads(target: Target, known: Sequence[Timed]) -> int:
    """Those that more than half of the devices of what was measured most are fastest with."""
    most = max(known, key=lambda each: (len(each.devices), each.calls))
    return most.threads if 2 * most.agree > len(most.devices) else target.threads


def _engines(target: Target, known: Sequence[Timed]) -> tuple[EngineChoice, ...]:
    """A place in the order stays its format's; which engine of the format gets it, times of one candidate decide."""
    alike = [[each for each in known if each.name == name] for name in dict.fromkeys(each.name for each in known)]
    rank = {each.engine: each.p50 for same in alike if len(same) > 1 for each in same}
    places = {form: [e for e in target.engines if e.format == form] for form in {e.format for e in target.engines}}
    for engines in places.values():
        engines.sort(key=lambda each: rank.get(each.name, math.inf))
    return tuple(places[each.format].pop(0) for each in target.engines)
