"""Bench: the live release, call after call, for as long as a host asks; nothing of it is kept here.

The host says for how many seconds, and how long a window is; a window is told when it is over.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any, Callable

from edgekit_runtime import engines, fields, golden, histogram, host, probe, releases, serving, windows
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.session import Session
from edgekit_runtime.windows import Window
from edgekit_watch import busy
from edgekit_watch.sensors import Sensors

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release

STARTS, STARTS_S = 10, 5.0
"""The model is loaded so often, and not again after so long."""
LOOK_S = 0.1
"""So often is looked whether the host is still there."""
LONGEST_S = 3600.0


def bench(home: Path, app: str) -> dict[str, Any]:
    """Tell what serves and how it starts; then do what the host asks, until it has enough; then {}.

    Raises: NotInstalled, BundleError, EngineError, DeviceError for an emulator and when the host has gone.
    """
    if probe.emulated():
        raise DeviceError("this device is emulated: its times are no latencies", "bench a real one")
    release = releases.current(home, app)
    inputs = [vector.inputs for vector in golden.of_bundle(release.bundle)]
    session, starts = _started(home, release, inputs[0])
    with session:
        host.tell({**_facts(release, session), "starts": starts})
        calls = itertools.cycle(inputs)
        run = Run(app, release.digest, lambda: session.predict(next(calls)))
        for asked in iter(host.line, None):
            if asked.get("layers") is True:
                host.tell(_layers(release, session, inputs[0]))
            else:
                _tell_windows(run, _seconds(asked["seconds"]), _seconds(asked["window_s"]))
    return {}


def _facts(release: Release, session: Session) -> dict[str, Any]:
    engine, manifest = session.engine, release.bundle.manifest
    named = {"name": engine.name, "version": engine.version, "provider": engine.provider}
    facts = {"release": release.digest, "version": manifest.version, "precision": manifest.precision}
    return {**facts, "engine": named, "degraded": session.degraded or None, "budget": manifest.budget}


def _started(home: Path, release: Release, inputs: dict[str, Any]) -> tuple[Session, list[tuple[int, int]]]:
    """A session that has made one call; and the nanoseconds of loading it and of that call, after those before it."""
    starts: list[tuple[int, int]] = []
    until = time.monotonic() + STARTS_S
    while True:
        begun = time.perf_counter_ns()
        session = Session.later(lambda: serving.untold(home, release), release.bundle.manifest.interface)
        session.engine  # noqa: B018 — loaded now
        loaded = time.perf_counter_ns()
        session.predict(inputs)
        starts.append((loaded - begun, time.perf_counter_ns() - loaded))
        if len(starts) == STARTS or time.monotonic() > until or not host.listens():
            return session, starts
        session.close()


def _seconds(value: object) -> float:
    seconds = fields.number(value)
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"{seconds!r} s")
    return seconds


def _tell_windows(run: Run, seconds: float, window_s: float) -> None:
    """One after the other; with the last one which other programs were at work."""
    others, until, more = busy.Others(), time.monotonic() + seconds, True
    while more:
        window = run.window(window_s, others)
        more = time.monotonic() + window_s / 2 < until
        programs = {} if more else others.programs()
        host.tell({"window": json.loads(windows.dump(window)), "more": more, "programs": programs})


class Run:
    """Calls without a pause, counted in windows. Their times are those of one clock that nobody sets."""

    def __init__(self, app: str, release: str, call: Callable[[], object]) -> None:
        self._app, self._release, self._call, self._seq = app, release, call, 0
        self._epoch_s, self._sensors = time.time() - time.perf_counter(), Sensors()

    def window(self, seconds: float, others: busy.Others) -> Window:
        """At least one call. Raises: EngineError, DeviceError when the host has gone."""
        buckets: dict[int, int] = {}
        now = look = begun = time.perf_counter_ns()
        until = begun + int(seconds * 1e9)
        while now < until or not buckets:
            self._call()
            after = time.perf_counter_ns()
            bucket = histogram.index(after - now)
            buckets[bucket] = buckets.get(bucket, 0) + 1
            if after > look:
                if not host.listens():
                    raise DeviceError("the host that measured has gone")
                look = after + int(LOOK_S * 1e9)
            now = time.perf_counter_ns()
        conditions = {**self._sensors.read(), "others_share": others.share()}
        named = (self._app, self._release, "bench", self._seq)
        times = (self._epoch_s + begun / 1e9, self._epoch_s + now / 1e9)
        self._seq += 1
        return Window(*named, *times, buckets, conditions=conditions)


def _layers(release: Release, session: Session, inputs: dict[str, Any]) -> dict[str, Any]:
    feeds = session.interface.feeds(inputs)
    return {"layers": engines.layers(session.engine, serving.model(release.bundle), feeds)}
