"""Probation: a release on trial while it serves: each start is written down, each window judged, and the end acted on.

Nothing here may keep a program from serving: a disk that refuses, or another push at work, leaves things as they are.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING, Callable

from edgekit_runtime import blackbox, crashes, logbook, processes, releases, service, states, switches, trial
from edgekit_runtime.errors import EdgekitError, EngineNotInstalled, InvalidInput
from edgekit_runtime.trial import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgekit_runtime.logbook import Logbook
    from edgekit_runtime.releases import Release
    from edgekit_runtime.trial import Facts
    from edgekit_runtime.windows import Window

BLAMELESS = (EngineNotInstalled, InvalidInput, KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a start and says nothing of the release: another environment, an odd input, somebody who stops it."""


def serving(home: Path, app: str) -> Release:
    """The release that is to serve now: the current one, unless it is found to have failed its trial.

    Raises: NotInstalled, BundleError.
    """
    folder = releases.folder_of(home, app, releases.pointed(home, app, "current"))
    try:
        release = releases.current(home, app)
    except EdgekitError as error:
        if states.read(folder).name == "trial" and switches.way_back(home, app):
            with _bookkeeping():
                return switches.leave(home, folder, "trial", Decision(trial.LEAVE, "damaged", error.message))
        raise
    if release.state.name == "bad" and switches.way_back(home, app):  # a way back that was cut short
        with _bookkeeping():
            why = Decision(trial.LEAVE, release.state.code, release.state.reason)
            return switches.leave(home, folder, "bad", why)
    if release.state.name != "trial":
        return release
    with _bookkeeping():
        dead: list[str] = []

        def count(book: Logbook) -> Logbook:
            dead.extend(book.gone())
            return book.counted(dead)

        book = logbook.change(release.folder, count)
        for name in dead:
            reason = f"process {name.split('-')[1]} ended without closing its session"
            _note_failure(home, release, reason, crashes.left(release.folder, name))
            crashes.forget(release.folder, name)
        settle(home, release, book)
    return releases.current(home, app)


def facts(home: Path, release: Release) -> Facts:
    """What the trial of a release has seen so far."""
    return logbook.read(release.folder).facts(switches.way_back(home, release.bundle.manifest.app))


def settle(home: Path, release: Release, book: Logbook) -> str:
    """Act on what the trial has seen; the verdict. Raises: OSError, DeviceError, BundleError."""
    manifest = release.bundle.manifest
    seen = book.facts(switches.way_back(home, manifest.app))
    decision = trial.decide(seen, trial.policy(manifest.budget))
    if decision.verdict == trial.LEAVE:
        switches.leave(home, release.folder, "trial", decision)
    elif decision.verdict == trial.CONFIRM:
        switches.confirm(home, manifest.app, release.digest, "served")
    return decision.verdict


class Probation:
    """One session of a release on trial. The recorder tells it of each window and of the end."""

    def __init__(self, home: Path, release: Release) -> None:
        self._home, self._release, self._me = home, release, processes.myself()
        self._began = self._seen = time.monotonic()
        self._healthy_s = trial.policy(release.bundle.manifest.budget).healthy_s
        self._blamed: BaseException | None = None
        self._over = False
        with _bookkeeping():
            logbook.change(release.folder, lambda book: book.started(self._me))
            crashes.watch(release.folder, self._me)

    def blame(self, error: BaseException) -> None:
        """The session ends because of an error."""
        if not isinstance(error, BLAMELESS):
            self._blamed = error

    def window(self, window: Window) -> None:
        """What the session did since the last one."""
        now = time.monotonic()
        seconds, self._seen = now - self._seen, now
        if self._over:
            return
        with _bookkeeping():
            if states.read(self._release.folder).name != "trial":
                self._over = True
            elif self._write(lambda book: self._next(book, window, seconds)) == trial.LEAVE:
                service.restart(self._home, self._release.bundle.manifest.app)  # so that it serves the one before

    def closed(self) -> None:
        """The session has ended, by itself or with the error that was blamed."""
        if self._over:
            return
        self._over = True
        blamed = None if self._healthy() else self._blamed
        if blamed is not None:
            told = traceback.format_exception(type(blamed), blamed, blamed.__traceback__)
            _note_failure(self._home, self._release, _line(blamed), blackbox.tail("".join(told)))
        with _bookkeeping():
            self._write(lambda book: book.ended(self._me) if blamed is None else book.failed(self._me))

    def _write(self, step: Callable[[Logbook], Logbook]) -> str:
        """Write down a step, and act on what the trial has seen by then; the verdict."""
        book = logbook.change(self._release.folder, step)
        if self._me not in book.starts:
            crashes.forget(self._release.folder, self._me)
        verdict = settle(self._home, self._release, book)
        self._over = self._over or verdict != trial.KEEP
        return verdict

    def _next(self, book: Logbook, window: Window, seconds: float) -> Logbook:
        book = book.served(window, seconds)
        return book.well(self._me) if self._healthy() else book

    def _healthy(self) -> bool:
        return time.monotonic() - self._began >= self._healthy_s


@contextlib.contextmanager
def _bookkeeping() -> Iterator[None]:
    with contextlib.suppress(OSError, EdgekitError):
        yield


def _note_failure(home: Path, release: Release, reason: str, tail: list[str]) -> None:
    told = blackbox.event("start_failed", release.digest, code="start_failed", reason=reason, tail=tail)
    blackbox.note(home, release.bundle.manifest.app, told)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
