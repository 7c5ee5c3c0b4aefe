"""Delivery: what the spools hold and the other side has not, brought there; each parcel is written down once taken.

A cut at any point costs nothing: what was not written down goes again.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Iterator

from edgekit_courier import https, letter, mqtt
from edgekit_courier.errors import Unwelcome
from edgekit_courier.parcels import Packer
from edgekit_courier.taken import Taken
from edgekit_runtime import home as homes
from edgekit_runtime import reporting, serves, spool_files
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

    from edgekit_courier.letter import Letter
    from edgekit_courier.parcels import Parcel
    from edgekit_runtime.windows import Window


def deliver(home: Path, *, greet: bool = False, alive: Callable[[], None] = lambda: None) -> int:
    """How many windows went over. ``greet``: also go there with none; ``alive`` is called after each parcel.

    Raises: Undelivered, DeviceError when nobody has enrolled this device, OSError when it cannot be written down.
    """
    place = letter.folder(home)
    with homes.held(place):
        known = letter.read(home)
        if known is None:
            raise DeviceError("nobody collects from this device", "edgekit collect enrol NAME")
        return _Round(home, known, alive).run(greet)


class _Round:
    def __init__(self, home: Path, known: Letter, alive: Callable[[], None]) -> None:
        self._reports, self._letter, self._alive = home / "reports", known, alive
        self._taken = Taken(letter.folder(home))
        self._packer = Packer(serves.told(home))

    def run(self, greet: bool) -> int:
        """Nobody is called on as long as there is nothing to bring."""
        waiting = self._packer.pack(self._new())
        first = next(waiting, self._packer.parcel(()) if greet else None)
        number = 0
        if first is not None:
            with (mqtt.Post if self._letter.scheme == "mqtts" else https.Post)(self._letter) as post:
                number = sum(self._bring(post, parcel) for parcel in chain([first], waiting))
        folders = sorted(self._reports.glob("*"))
        if self._taken.only(file.session for folder in folders for file in spool_files.listed(folder)):
            self._taken.keep()
        for folder in folders:
            Spool(folder).told()
        return number

    def _new(self) -> Iterator[Window]:
        """What is not there yet; a spool that is damaged gives what can be read of it."""
        have = dict(self._taken.last)
        for folder in sorted(self._reports.glob("*")):
            yield from reporting.newer(folder, have)

    def _bring(self, post: https.Post | mqtt.Post, parcel: Parcel) -> int:
        """A parcel, or what of it is welcome: one window that nobody takes must not keep the others."""
        try:
            post.send(parcel)
            brought = len(parcel.windows)
        except Unwelcome:
            if len(parcel.windows) > 1:
                return sum(self._bring(post, half) for half in self._packer.halves(parcel))
            brought = 0
        if parcel.windows:
            self._taken.add(parcel.windows)
            self._taken.keep()
        self._alive()
        return brought
