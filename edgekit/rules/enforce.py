"""Enforce: what rules call for is done: rollouts of a release are held, devices go back to the release before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from edgekit import push as pushing
from edgekit.errors import ConnectError, EdgekitError
from edgekit.fleet import Device
from edgekit.rollout_store import Book
from edgekit.rules.deed_store import AWAY, DONE, FAILED, Deeds
from edgekit.rules.deeds import HOLD, Due
from edgekit.transports import Transport

Connect = Callable[[Device], AbstractContextManager[Transport]]


@dataclass(frozen=True)
class Outcome:
    """What came of something due: "held", "rolled back", or "failed" with the error; ``told`` is one line."""

    due: Due
    what: str
    told: str
    error: dict[str, str | None] | None = None


def hold(due: Sequence[Due], book: Book) -> list[Outcome]:
    """Running rollouts of the releases begin no further wave. Raises: EdgekitError when the store refuses."""
    return [
        Outcome(each, "held", f"rollout {number} is held: {each.reason}, on {each.device}")
        for each in due
        if each.do == HOLD
        for number in book.hold(each.release, each.rule, f"{each.reason}, on {each.device}")
    ]


def roll_back(due: Due, device: Device, deeds: Deeds, connect: Connect) -> Outcome | None:
    """Take a device back, once; None where somebody else has, or is at it. Raises: EdgekitError of the store."""
    if not deeds.begin(due):
        return None
    try:
        with connect(device) as transport:
            back = _back(due, device, transport)
    except EdgekitError as error:
        deeds.end(due, AWAY if isinstance(error, ConnectError) else FAILED)
        return Outcome(due, "failed", f"{due.app} could not be rolled back ({due.reason})", error.as_dict())
    deeds.end(due, DONE, back)
    return Outcome(due, "rolled back", f"{due.app} is back at {back[:19]}: {due.reason}")


def _back(due: Due, device: Device, transport: Transport) -> str:
    """The release that the device serves then. Raises: DeviceError when another one than judged is live there."""
    words = ("--rule", due.reason, "--leaving", due.release)
    return str(pushing.rollback(due.app, device, transport, _unheard, words=words)["digest"])


def _unheard(line: str) -> None:
    """What hooks say is in their own log."""
