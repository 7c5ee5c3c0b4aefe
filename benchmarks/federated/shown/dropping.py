"""Dropping: devices that do not answer a round, answer the next one instead, or leave in the midst of a secure sum."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.federated.shown.course import Honest
from edgekit.federated import staleness
from edgekit.federated.privacy.secure_sum import SecureSum
from edgekit_train.clipping import clip
from edgekit_train.fixed_point import Encoding
from edgekit_train.masks import Party
from edgekit_train.update import Update, Weights

STAGES = ("enrol", "share", "add", "confirm", "open")
"""Of a secure sum."""
MOST = 4.0
"""The bound that deltas are clipped to before they are masked: longer than any honest one here."""


@dataclass(frozen=True)
class Missing:
    """Each round so many devices, or always the same ones, are not heard: they were off, died while they trained, or
    were cut off until the deadline. The host has nothing of them, whichever it was.
    """

    devices: Honest
    count: int
    always: bool = False

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        gone = drawn(self.devices, self.count, 0 if self.always else number)
        return self.devices.of([name for name in self.devices.fleet.devices if name not in gone], weights, number)


@dataclass(frozen=True)
class Late:
    """Each round so many devices come after its deadline: what they learned is made smaller and counts in the next one,
    in which they are not asked.
    """

    devices: Honest
    count: int
    waiting: list[Update] = field(default_factory=list)

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        aged, asked = [staleness.aged(each, 1) for each in self.waiting], list(self.devices.fleet.devices)
        busy = {each.device for each in aged}
        came = self.devices.of([name for name in asked if name not in busy], weights, number)
        late = drawn(self.devices, self.count, number) - busy
        self.waiting[:] = [each for each in came if each.device in late]
        return [*aged, *(each for each in came if each.device not in late)]


@dataclass(frozen=True)
class Masked:
    """The host sees the sum only. Each round so many devices leave at one stage: the first, then the second, and on."""

    devices: Honest
    count: int

    def __call__(self, weights: Weights, number: int) -> list[Update]:
        gone = dict.fromkeys(drawn(self.devices, self.count, number), STAGES[number % len(STAGES)])
        came = [replace(each, delta=clip(each.delta, MOST).delta) for each in self.devices(weights, number)]
        return [added_up(came, gone)]


def drawn(devices: Honest, count: int, seed: int) -> set[str]:
    """So many of their names."""
    names = sorted(devices.fleet.devices)
    return {names[at] for at in np.random.default_rng(seed).choice(len(names), count, replace=False)}


def added_up(updates: list[Update], gone: dict[str, str]) -> Update:
    """The mean of the updates as a secure sum gives it; ``gone``: from which stage on a device is silent.

    Raises: RoundError when too few are left.
    """
    told, encoding = updates[0], Encoding(MOST, len(updates))
    parties = {each.device: Party(told.round, each.device) for each in updates}
    host = SecureSum(told.round, sum(array.size for array in told.delta.values()))
    for name in _there(parties, gone, "enrol"):
        host.enrol(parties[name].advert())
    roster = host.roster()
    for name in _there(parties, gone, "share"):
        host.share(parties[name].share(roster))
    mailboxes, vectors = host.mailboxes(), {each.device: encoding.encode(each.delta) for each in updates}
    for name in _there(parties, gone, "add"):
        host.add(parties[name].mask(mailboxes[name], vectors[name]))
    _opened(host, parties, gone)
    total, count = host.total(), len(_there(parties, gone, "add"))
    return replace(told, device="sum", examples=count, delta=encoding.decode(total, count, told.delta), metrics={})


def _opened(host: SecureSum, parties: dict[str, Party], gone: dict[str, str]) -> None:
    added = host.added()
    for name in _there(parties, gone, "confirm"):
        host.confirm(parties[name].confirm(added))
    confirmations = host.confirmations()
    for name in _there(parties, gone, "open"):
        host.open(parties[name].open(confirmations))


def _there(parties: Collection[str], gone: dict[str, str], stage: str) -> list[str]:
    at = STAGES.index(stage)
    return [name for name in sorted(parties) if name not in gone or STAGES.index(gone[name]) > at]
