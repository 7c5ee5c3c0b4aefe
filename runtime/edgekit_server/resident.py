"""Resident: an app that is served: by one worker, beside which the next release's may be coming, and others leaving."""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from edgekit_runtime import releases
from edgekit_runtime.errors import EdgekitError
from edgekit_server import memory
from edgekit_server.asked import AGAIN
from edgekit_server.documents import version_of
from edgekit_server.http import Refused
from edgekit_server.page import SLOTS
from edgekit_server.workers import Inquiry, Worker

if TYPE_CHECKING:
    from edgekit_runtime.releases import Release
    from edgekit_server.counts import Counts
    from edgekit_server.residents import Residents

STEADY_S = 30.0
"""A worker that lived so long did not fail to start."""
BACKOFF_S, MOST_BACKOFF_S = 0.25, 30.0


def pause_s(failures: int) -> float:
    """How long to wait when so many workers in a row have ended by themselves; the first is replaced at once."""
    return 0.0 if failures < 2 else min(MOST_BACKOFF_S, BACKOFF_S * 2.0 ** min(failures - 1, 10))


class Resident:
    """``wanted``: whether it is to be loaded now; ``barred``: not even when asked for. ``why``: what is wrong with it.

    ``release``: the one that serves, or would. ``failures``: workers in a row that have ended by themselves, and
    ``failed`` all of them.
    """

    def __init__(self, app: str, owner: Residents) -> None:
        self.app, self.wanted, self.barred, self.why = app, True, False, ""
        self.release: Release | None = None
        self.failures, self.failed, self._asked_s = 0, 0, -math.inf
        self._owner = owner
        self._serving: Worker | None = None
        self._coming: Worker | None = None
        self._leaving: list[Worker] = []
        self._waiting: deque[Inquiry] = deque()
        self._not_before_s = -math.inf
        self._weight, self._predicted = 0, ("", 0)

    @property
    def version(self) -> str:
        return version_of(self.release.bundle.manifest) if self.release else ""

    @property
    def workers(self) -> list[Worker]:
        return [*self._leaving, *(each for each in (self._serving, self._coming) if each)]

    @property
    def serving(self) -> Worker | None:
        return self._serving

    @property
    def counts(self) -> Counts:
        """Of its answers."""
        return self._owner.ledger.counts(self.app, self.version)

    @property
    def used_s(self) -> float:
        """When it was asked last."""
        return max(self._asked_s, self._serving.used_s if self._serving else -math.inf)

    @property
    def waits(self) -> bool:
        """Whether somebody waits for it to be loaded."""
        return bool(self._waiting)

    @property
    def state(self) -> str:
        """In the words of Triton's repository."""
        if self._serving:
            return "READY"
        if self._coming:
            return "LOADING"
        return "UNLOADING" if self._leaving else "UNAVAILABLE"

    def ask(self, inquiry: Inquiry) -> None:
        """It is answered, in time."""
        self._asked_s = self._owner.loop.now
        try:
            if self._serving:
                self._pass_on(inquiry, self._serving)
            else:
                self._keep(inquiry)
        except Refused as refused:
            inquiry.reply(refused.response())

    def load(self) -> None:
        self.wanted, self.barred = True, False
        self.look()

    def unload(self, why: str) -> None:
        """What it was asked it answers; it comes again when it is asked again, unless it is barred."""
        self.wanted, self.why = False, why
        self._refuse_waiting()
        for worker in (self._serving, self._coming):
            if worker:
                self._leave(worker)
        self._serving = self._coming = None

    def look(self) -> None:
        """To be called now and then: whether there is another release, and whether all is well."""
        for worker in self.workers:
            worker.look()
        if self._serving:
            self._weight = max(self._weight, self._serving.memory())
        late = self._owner.loop.now - self._owner.terms.timeout_s
        while self._waiting and self._waiting[0].arrived_s < late:
            refused = Refused(503, f"{self.app} is not ready{self.why and ': '}{self.why}", AGAIN)
            self._waiting.popleft().reply(refused.response())
        if self.wanted and not self._coming and self._owner.loop.now >= self._not_before_s:
            self._follow(releases.pointed(self._owner.terms.home, self.app, "current"))

    def _follow(self, current: str) -> None:
        """Bring a release to serve: beside the one that does where there is room for both, else after it."""
        if self._serving and self._serving.digest == current:
            return
        need = self._need(current)
        if not current:
            self._gone()
        elif self._serving and not self._owner.fits(need):
            self._leave(self._serving)
            self._serving = None
        elif self._serving or self._owner.make_room(self, need):
            self._coming = Worker(self._owner.loop, self.app, self._owner.terms, self._changed)
            self._coming.need = need
        else:
            self.why, self.wanted = "there is no memory for it beside the others", self.waits

    def _need(self, digest: str) -> int:
        """Bytes for a worker of a release: as predicted, but no less than the last one took."""
        if not self._serving:
            self._show(digest)
        if self._predicted[0] != digest:
            self._predicted = digest, memory.ENGINE
            with suppress(EdgekitError):
                release = releases.find(self._owner.terms.home, self.app, digest)
                self._predicted = digest, memory.predicted(release.bundle)
        return max(self._predicted[1], self._weight)

    def _gone(self) -> None:
        """No release of it is live any more."""
        self.unload("no release of it is live")
        self.wanted = True

    def _show(self, digest: str) -> None:
        """Be that release for who asks what this is; one that is damaged, the worker deals with."""
        if self.release is None or self.release.digest != digest:
            with suppress(EdgekitError):
                self.release = releases.find(self._owner.terms.home, self.app, digest)

    def _changed(self, worker: Worker) -> None:
        if worker.ended:
            self._ended(worker)
        elif worker is self._coming:
            self._take_over(worker)
        self._owner.look()

    def _take_over(self, worker: Worker) -> None:
        before, self._serving, self._coming = self._serving, worker, None
        self.why = worker.degraded and f"degraded: {worker.degraded}"
        self._show(worker.digest)
        worker.tally = self._owner.ledger.of(self.app, self.version)
        if before:
            self._leave(before)
        while self._waiting:
            self.ask(self._waiting.popleft())

    def _ended(self, worker: Worker) -> None:
        if worker in self._leaving:
            return self._leaving.remove(worker)
        if worker is self._serving:
            self._serving = None
        else:
            self._coming = None
        now, self.failed = self._owner.loop.now, self.failed + 1
        self.failures = self.failures + 1 if now - worker.began_s < STEADY_S else 1
        self.why, self._not_before_s = worker.error, now + pause_s(self.failures)
        if not self._serving and pause_s(self.failures):
            self._refuse_waiting()
        return None

    def _leave(self, worker: Worker) -> None:
        self._leaving.append(worker)
        worker.finish()

    def _pass_on(self, inquiry: Inquiry, worker: Worker) -> None:
        if inquiry.version not in ("", self.version):
            raise Refused(404, f"{self.app} has no version {inquiry.version[:40]!r} here, but {self.version}")
        worker.ask(inquiry)

    def _keep(self, inquiry: Inquiry) -> None:
        """Until there is a worker."""
        pause = self._not_before_s - self._owner.loop.now
        if self.barred or (pause > 0 and not self._coming):
            again = {} if self.barred else {"Retry-After": str(math.ceil(pause))}
            raise Refused(503, f"{self.app} is not served: {self.why}", again)
        if len(self._waiting) >= SLOTS:
            raise Refused(503, f"too many requests wait for {self.app}", AGAIN)
        self._waiting.append(inquiry)
        if not self._coming:
            self.load()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().reply(Refused(503, f"{self.app} is not served: {self.why}", AGAIN).response())
