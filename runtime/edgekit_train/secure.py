"""Secure: a device's part in a secure sum, as a conversation with the host; what it has learned is told only masked.

Lines of JSON. The device speaks first: its signed advert. Then it answers: to ``adverts`` with its shares, to
``sealed`` with its vector, masked, to ``added`` with its signature, to ``confirmed`` with the shares that are opened.
Its keys and what it has learned lie in the memory of this process; a conversation that breaks off is never taken up
again.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from edgekit_runtime import durable, fields, host
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.home import held
from edgekit_train import letter_file, peers, signed_advert
from edgekit_train.letters import ANOTHER, Confirmed
from edgekit_train.masks import Party
from edgekit_train.trainer import TrainingFailed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from edgekit_train.letter_file import Letter
    from edgekit_train.task import Task

    Vector = np.ndarray[Any, np.dtype[np.uint32]]

GIVEN, MOST = "given", 64 << 20
"""The rounds that this device has given its part of, a line each."""
WAIT_S = 2 * 3600
"""So long is a host waited for that says nothing; then this process ends."""


@dataclass(frozen=True)
class Part:
    """``folder``: of the app's rounds on this device."""

    home: Path
    folder: Path
    task: Task

    def take(self, vector: Vector) -> dict[str, Any]:
        """The last of the letters. Raises: DeviceError, ValueError, OSError."""
        party = Party(self.task.round, self.task.device)
        said = _asked(signed_advert.signed(self.home, party.advert()).as_dict())
        adverts = [signed_advert.of(fields.table(each)) for each in fields.items(said["adverts"])]
        peers.check(self.home, (each for each in adverts if each.device != self.task.device))
        said = _asked(_told(party.share([each.advert for each in adverts])))
        sealed = {sender: bytes.fromhex(fields.text(each)) for sender, each in fields.table(said["sealed"]).items()}
        masked = party.mask(sealed, vector)
        self._give()
        said = _asked(_told(masked))
        said = _asked(_told(party.confirm([fields.text(each) for each in fields.items(said["added"])])))
        confirmed = [signed_advert.letter(Confirmed, fields.table(each)) for each in fields.items(said["confirmed"])]
        return _told(party.open(confirmed))

    def check(self) -> None:
        """Raises: TrainingFailed where it was given."""
        path = self.folder / GIVEN
        if path.exists() and self.task.round.encode() in durable.read(path, MOST).splitlines():
            already = f"{self.task.app}: this device has given its part of this round already"
            raise TrainingFailed(already, ANOTHER)

    def _give(self) -> None:
        """Once, even of a round that was forgotten: two sums, one with this device and one without, differ by what it
        has said.
        """
        with held(self.folder):
            self.check()
            durable.append(self.folder / GIVEN, self.task.round.encode())


def _asked(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the host says next. Raises: DeviceError where it has enough."""
    signal.alarm(WAIT_S)
    said = host.line() if host.tell(document) else None
    signal.alarm(0)
    if said is None:
        raise DeviceError("the host has ended the round", "start another one")
    return said


def _told(letter: Letter) -> dict[str, str]:
    return {"letter": signed_advert.text(letter_file.dump(letter))}
