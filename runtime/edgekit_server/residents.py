"""Residents: the apps that a server serves, as they come and go on the device, under a ceiling of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, Sequence

from edgekit_runtime import notify, releases
from edgekit_server import memory
from edgekit_server.http import Refused
from edgekit_server.launch import Terms
from edgekit_server.ledger import Ledger
from edgekit_server.resident import Resident
from edgekit_server.workers import Inquiry

if TYPE_CHECKING:
    from edgekit_server.loop import Loop
    from edgekit_server.workers import Worker

LOOK_S = 0.5
LOADED_S = 0.05
"""How often one looks whether an app is loaded, while somebody waits for that."""
TURN_S = 5.0
"""How long an app that is in use keeps its place when another one waits for it."""


class Residents:
    """``apps``: the only ones to serve; none for all that are live.

    They are loaded as far as memory goes, and the others when they are asked: then the one that was not asked for
    longest goes.
    """

    def __init__(self, loop: Loop, terms: Terms, apps: Sequence[str] = ()) -> None:
        self.loop, self.terms = loop, terms
        self._only = tuple(apps)
        self._apps: dict[str, Resident] = {}
        self.ledger = Ledger(self._workers)
        self._stopped: Callable[[], None] | None = None
        self._tick()

    def __iter__(self) -> Iterator[Resident]:
        return iter(self._apps.values())

    def find(self, app: str, version: str = "") -> Resident:
        """Raises: Refused."""
        resident = self._apps.get(app)
        if resident is None:
            raise Refused(404, f"there is no model {app[:80]!r} here")
        if version not in ("", resident.version):
            raise Refused(404, f"{app} has no version {version[:40]!r} here, but {resident.version or 'none'}")
        return resident

    def ask(self, app: str, inquiry: Inquiry) -> None:
        """It is answered, in time. Raises: Refused for an app that is not served here."""
        if self._stopped:
            raise Refused(503, "the server is about to end", {"Retry-After": "5"})
        self.find(app).ask(inquiry)

    def load(self, app: str, done: Callable[[Resident], None]) -> None:
        """Have it loaded; ``done`` is called once it serves, or cannot. Raises: Refused."""
        resident = self.find(app)
        resident.barred = False
        self._load(resident, done)

    def _load(self, resident: Resident, done: Callable[[Resident], None]) -> None:
        if not (resident.barred or self._stopped):
            resident.load()
            if resident.state in ("LOADING", "UNLOADING"):
                self.loop.later(LOADED_S, lambda: self._load(resident, done))
                return
        done(resident)

    def unload(self, app: str) -> None:
        """Until it is loaded again. Raises: Refused."""
        resident = self.find(app)
        resident.unload("it was unloaded")
        resident.barred = True

    def states(self) -> list[tuple[str, str, str, str]]:
        """App, version, state and what is wrong with it, as ``documents.index`` takes them."""
        return [(each.app, each.version, each.state, each.why) for each in self]

    def recall(self) -> None:
        """Have all connections back that were lent to workers, for good."""
        for worker in self._workers():
            worker.recall()

    def stop(self, stopped: Callable[[], None]) -> None:
        """Answer what was asked, and end all workers; ``stopped`` is called when none is left."""
        self._stopped = stopped
        for each in self:
            each.unload("the server is about to end")
        self.look()

    def look(self) -> None:
        """Whether all is well; at once after something has changed."""
        for each in self:
            each.look()
        if self._stopped and not any(each.workers for each in self):
            stopped, self._stopped = self._stopped, _nothing
            stopped()

    def fits(self, need: int) -> bool:
        """Whether there is room for so many bytes beside all workers, and what those that are coming will take."""
        workers = self._workers()
        taken = [worker.memory() for worker in workers]
        coming = sum(max(0, each.need - have) for each, have in zip(workers, taken) if not each.digest)
        return memory.fits(need + coming, sum(taken), self.terms.memory_bytes)

    def make_room(self, resident: Resident, need: int) -> bool:
        """Whether an app that nobody serves may be loaded now. What it needs is only known roughly: alone, it may.

        If somebody waits for it, another one goes.
        """
        if self.fits(need):
            return True
        others = [each for each in self if each.workers and each is not resident]
        leaving = any(each.state == "UNLOADING" for each in [*others, resident])
        if resident.waits and not leaving:
            before = self.loop.now - TURN_S
            gone = [
                each for each in others if each.serving and (not each.serving.busy or each.serving.began_s < before)
            ]
            if gone:
                min(gone, key=lambda each: each.used_s).unload("another app needs its memory")
        return not others and not leaving

    def _workers(self) -> list[Worker]:
        return [worker for each in self for worker in each.workers]

    def _tick(self) -> None:
        if not self._stopped:
            names = self._only or releases.apps(self.terms.home)
            kept = {each.app: each for each in self if each.app in names or each.workers}
            self._apps = {**{app: Resident(app, self) for app in names if app not in kept}, **kept}
        self.look()
        notify.SUPERVISOR.alive()
        self.loop.later(LOOK_S, self._tick)


def _nothing() -> None:
    """After the end."""
