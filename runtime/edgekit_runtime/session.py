"""Session: one loaded model that serves, call by call or many at once; every call's latency is recorded."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from edgekit_runtime import bundle as bundles
from edgekit_runtime import engines, notify, probation, releases, serving, watched
from edgekit_runtime.errors import EdgekitError, EngineError, InvalidInput, NotInstalled, Overloaded
from edgekit_runtime.home import NAME, default_home
from edgekit_runtime.probation import Probation
from edgekit_runtime.recorder import Recorder
from edgekit_runtime.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    import numpy as np

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.engines import Engine
    from edgekit_runtime.interface import Interface
    from edgekit_runtime.manifest import EngineNeed
    from edgekit_runtime.pipeline import Pipeline, Stage, Steps
    from edgekit_runtime.releases import Release
    from edgekit_runtime.serving import Loaded

    Array = np.ndarray[Any, Any]

Made = TypeVar("Made")
MOST_WAITING = 64
"""Calls of ``predict_async`` that are under way; one that is given too many says so, instead of filling the memory."""
MOST_WARM_UPS, WARM = 10, 0.8
"""The model is warm when a run takes more than this share of the time of the one before."""


def load(app: str | os.PathLike[str], *, lazy: bool = False) -> Session:
    """A session of an installed app (its calls are reported), or of the bundle in a folder (they are not).

    A ``lazy`` one loads its model for the first call, or ``warm_up``, which then raise what loading it raises.
    Raises: NotInstalled, BundleError, EngineError.
    """
    home, name = default_home(), os.fspath(app)
    if NAME.fullmatch(name) and releases.pointed(home, name, "current"):
        return of_release(home, probation.serving(home, name), lazy=lazy)
    if os.path.isdir(name):  # False for any odd name
        return of_bundle(bundles.open_layout(Path(name))[0], lazy=lazy)
    if NAME.fullmatch(name):
        releases.current(home, name)
    live = ", ".join(releases.apps(home)) or "none"
    raise NotInstalled(f"{name!r} is neither an installed app nor a folder with a bundle", f"live apps: {live}")


def of_release(home: Path, release: Release, *, lazy: bool = False) -> Session:
    """A session that is reported and, of a release on trial, watched, from before its model is loaded."""
    app = release.bundle.manifest.app
    watch = Probation(home, release) if release.state.name == "trial" else None
    recorder = Recorder(Spool(home / "reports" / app), app, release.digest, probation=watch)

    def engine() -> Loaded:
        loaded, why = serving.proven(home, release)
        recorder.quality = watched.quality(release.bundle)
        notify.SUPERVISOR.ready(f"{app} {release.digest[:19]} by {loaded.name}")
        return loaded, why

    try:
        return _session(release.bundle, engine, recorder, lazy=lazy)
    except BaseException as error:
        recorder.close(error)
        raise


def of_bundle(bundle: Bundle, recorder: Recorder | None = None, *, lazy: bool = False) -> Session:
    """A session of a bundle's model as the manifest declares it. Raises: BundleError, EngineError."""
    return _session(bundle, lambda: serving.declared(bundle), recorder, lazy=lazy)


def _session(bundle: Bundle, engine: Callable[[], Loaded], recorder: Recorder | None, *, lazy: bool) -> Session:
    session = Session.later(engine, bundle.manifest.interface, recorder)
    session.samples = lambda: _golden_inputs(bundle)
    if not lazy:
        session.engine  # noqa: B018 — now
    return session


def _golden_inputs(bundle: Bundle) -> list[dict[str, Array]]:
    from edgekit_runtime import golden

    return [vector.inputs for vector in golden.of_bundle(bundle)]


class Session:
    """A model that serves. Use it as a context manager, or call ``close``; ``predict`` is thread-safe.

    ``degraded``: why the model runs by less than its bundle demands or was proven with, or "".
    """

    def __init__(self, model: bytes, interface: Interface, needs: Sequence[EngineNeed]) -> None:
        self._prepare(lambda: (engines.load(model, needs), ""), interface)
        self.engine  # noqa: B018 — now

    @classmethod
    def later(cls, load: Callable[[], Loaded], interface: Interface, recorder: Recorder | None = None) -> Session:
        """One that loads its engine when it is first needed."""
        session = cls.__new__(cls)
        session._prepare(load, interface, recorder)
        return session

    def _prepare(self, load: Callable[[], Loaded], interface: Interface, recorder: Recorder | None = None) -> None:
        self.interface, self.degraded = interface, ""
        self._load: Callable[[], Loaded] | None = load
        self._engine: Engine | None = None
        self._loading = threading.Lock()
        self.samples: Callable[[], list[dict[str, Array]]] = list
        """Inputs that the model is known to answer well: those of the bundle's golden vectors."""
        self.recorder = recorder
        self._pipeline: Pipeline | None = None
        self._lock, self._room = threading.Lock(), threading.BoundedSemaphore(MOST_WAITING)

    @property
    def engine(self) -> Engine:
        """Loaded at the first use. Raises: BundleError, EngineError."""
        return self._engine or self._loaded()

    def _loaded(self) -> Engine:
        with self._loading:
            if self._load:
                self._engine, self.degraded = self._load()
                self._load = None  # with which the model's bytes go
            if self._engine is None:
                raise EngineError("the session is closed", "load the model again")
            return self._engine

    def predict(self, inputs: dict[str, Array] | Array) -> dict[str, Array]:
        """Outputs by name, in the layout, order and meaning of the source model.

        ``inputs``: arrays by input name, or one array where there is a single input; for a preprocessed image
        height × width × colour, with or without a batch axis. Raises: InvalidInput, EngineError.
        """
        clock, interface = time.perf_counter_ns, self.interface
        started = clock()
        try:
            feeds = interface.feeds(inputs)
            fed = clock()
            raw = self.engine.run(feeds)
            ran = clock()
            outputs = interface.results(raw)
        except EdgekitError as error:
            self._failed(error)
            raise
        if self.recorder:
            self.recorder.record(fed - started, ran - fed, clock() - ran)
            self._seen(inputs, feeds, outputs, ran - fed)
        return outputs

    def lend(self, inputs: dict[str, Array] | Array, use: Callable[[dict[str, Array]], Made]) -> Made:
        """What ``use`` makes of the outputs, which are not copied where the engine can show its own memory.

        They are there until ``use`` returns, and not to be kept: an engine that finds one of them kept refuses to run.
        Other threads wait meanwhile. Raises: as ``predict``, and what ``use`` does.
        """
        clock = time.perf_counter_ns
        started = clock()

        def used(raw: dict[str, Array]) -> Made:
            ran = clock()
            outputs = self.interface.results(raw)
            if self.recorder:
                self.recorder.record(fed - started, ran - fed, clock() - ran)
                self._seen(inputs, feeds, outputs, ran - fed)
            return use(outputs)

        try:
            feeds = self.interface.feeds(inputs)
            fed = clock()
            return engines.lend(self.engine, feeds, used)
        except EdgekitError as error:
            self._failed(error)
            raise

    def predict_async(self, inputs: dict[str, Array] | Array) -> Future[dict[str, Array]]:
        """As ``predict``, by threads of the session, in the order of the calls; errors come with the future.

        Its latency is the work without the waiting. Raises: Overloaded when MOST_WAITING calls are under way.
        """
        if not self._room.acquire(blocking=False):
            raise Overloaded(f"{MOST_WAITING} calls are under way", "take the results of some first, or use stream")
        future = self._submit(inputs)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def stream(self, items: Iterable[dict[str, Array] | Array]) -> Iterator[dict[str, Array]]:
        """The outputs of each item, in order, while a few items ahead are read, preprocessed and run in threads.

        An error is raised in the place of its item, and ``next`` goes on with the one after it. Items are read in a
        thread, no more of them than are under way.
        """
        from edgekit_runtime.pipeline import Stream

        return Stream(self._submit, items)

    def warm_up(self, inputs: dict[str, Array] | Array | None = None) -> float:
        """Run the model, unrecorded, until it is not getting faster; the seconds that a run takes.

        With the first golden vector where no ``inputs`` are given. Raises: InvalidInput, BundleError, EngineError.
        """
        given = inputs if inputs is not None else next(iter(self.samples()), None)
        if given is None:
            raise InvalidInput("there is no golden vector to warm up with", "give inputs")
        feeds, seconds = self.interface.feeds(given), float("inf")
        for _ in range(MOST_WARM_UPS):
            started, before = time.perf_counter(), seconds
            self.interface.results(self.engine.run(feeds))
            seconds = time.perf_counter() - started
            if seconds > WARM * before:
                break
        return seconds

    def _submit(self, inputs: dict[str, Array] | Array) -> Future[dict[str, Array]]:
        from edgekit_runtime.pipeline import Pipeline

        started = time.perf_counter_ns()
        steps: Steps = [(0, inputs)]
        with self._lock:
            self._pipeline = self._pipeline or Pipeline(self._stages())
            future = self._pipeline.put(inputs, steps)
        future.add_done_callback(lambda done: self._done(done, time.perf_counter_ns() - started, steps))
        return future

    def _stages(self) -> list[Stage]:
        """A thread for the engine, and one before and after it where there is work for it."""
        interface, run = self.interface, self.engine.run
        before: list[Stage] = [(interface.feeds,), (run,)] if interface.preprocess else [(interface.feeds, run)]
        if interface.postprocess:
            return [*before, (interface.results,)]
        return [*before[:-1], (*before[-1], interface.results)]

    def _done(self, future: Future[dict[str, Array]], passed_ns: int, steps: Steps) -> None:
        """``steps``: those of ``_stages``. They are let go: the future may be kept for long."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None and self.recorder:
            (_, inputs), (fed_ns, feeds), (ran_ns, _), (made_ns, outputs) = steps
            self.recorder.record(fed_ns, ran_ns, made_ns, passed_ns - fed_ns - ran_ns - made_ns)
            self._seen(inputs, feeds, outputs, ran_ns)
        elif isinstance(error, EdgekitError):
            self._failed(error)
        steps.clear()

    def _seen(self, inputs: Any, feeds: dict[str, Array], outputs: dict[str, Array], infer_ns: int) -> None:
        """A call that was recorded: what it was given, what of that the artifact was, what it gave."""
        if self.recorder and self.recorder.quality:
            self.recorder.quality.look(inputs, feeds, outputs, infer_ns)
        notify.SUPERVISOR.alive()

    def _failed(self, error: EdgekitError) -> None:
        if self.recorder:
            self.recorder.failed(error.code)

    def close(self, error: BaseException | None = None) -> None:
        """Write the last window of latencies and let the model go; ``error`` is what ends it, if one does.

        Calls that are under way are finished first.
        """
        with self._lock:
            pipeline, self._pipeline = self._pipeline, None
        if pipeline:
            pipeline.close()
        if self.recorder:
            self.recorder.close(error)
        with self._loading:
            self._load = None
        if self._engine:
            self._engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)
