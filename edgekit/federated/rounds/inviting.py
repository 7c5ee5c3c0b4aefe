"""Inviting: whom of its devices a round asks, and for what."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edgekit.errors import ConfigError
from edgekit.federated.rounds import admission
from edgekit.federated.rounds.asking import Ask
from edgekit.federated.rounds.round import FAILED, WAITING, Part, Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit.federated.rounds.tasking import task
from edgekit.federated.rounds.ways import Ways
from edgekit_train.device_key import digest_of


def anew(part: Part, ways: Ways) -> Part:
    """A device that is asked, again where it was before; who has left the fleet cannot be."""
    if part.device in ways.fleet:
        return Part(part.device, WAITING)
    gone = ConfigError(f"no device {part.device!r} in fleet.toml any more", f"edgekit device add {part.device} …")
    return Part(part.device, FAILED, error=gone.as_dict())


def asks(round_: Round, until: float, ways: Ways) -> Iterator[Ask]:
    """What the devices that it has no update from are asked, each made as it is sent."""
    subject, weights = round_.subject, Shelf(round_.key).start().weights
    most, accept = admission.most_bytes(weights), round_.plan.accept_new_host_key
    for part in round_.of(WAITING):
        data, device = task(round_, part.device, weights), ways.fleet[part.device]
        signature, left = ways.sign(digest_of(data)), until - time.monotonic()
        yield Ask(device, subject.app, round_.key, data, signature, most, left, accept)
