"""Session: one loaded model that serves; every call's latency is recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_runtime import bundle as bundles
from edgekit_runtime import engines, notify, probation, releases
from edgekit_runtime.errors import EdgekitError, NotInstalled
from edgekit_runtime.home import NAME, default_home
from edgekit_runtime.probation import Probation
from edgekit_runtime.report import Recorder, Spool
from edgekit_runtime.setting import pinned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.interface import Interface
    from edgekit_runtime.manifest import EngineNeed
    from edgekit_runtime.releases import Release
    from edgekit_runtime.setting import Setting

    Array = np.ndarray[Any, Any]


def load(app: str | os.PathLike[str]) -> Session:
    """A session of an installed app (its calls are reported), or of the bundle in a folder (they are not).

    Raises: NotInstalled, BundleError, EngineError.
    """
    home, name = default_home(), os.fspath(app)
    if NAME.fullmatch(name) and releases.pointed(home, name, "current"):
        return _of_release(home, probation.serving(home, name))
    if os.path.isdir(name):  # False for any odd name
        return of_bundle(bundles.open_layout(Path(name))[0])
    if NAME.fullmatch(name):
        releases.current(home, name)
    live = ", ".join(releases.apps(home)) or "none"
    raise NotInstalled(f"{name!r} is neither an installed app nor a folder with a bundle", f"live apps: {live}")


def _of_release(home: Path, release: Release) -> Session:
    """A session that is reported and, of a release on trial, watched, from before its model is loaded."""
    app = release.bundle.manifest.app
    watch = Probation(home, release) if release.state.name == "trial" else None
    recorder = Recorder(Spool(home / "reports" / app), app, release.digest, probation=watch)
    try:
        session = of_bundle(release.bundle, recorder, pinned(release.state.proof))
    except BaseException as error:
        recorder.close(error)
        raise
    notify.SUPERVISOR.ready(f"{app} {release.digest[:19]} by {session.engine.name}")
    return session


def of_bundle(bundle: Bundle, recorder: Recorder | None = None, setting: Setting | None = None) -> Session:
    """A session of a bundle's model, loaded from verified bytes, as the manifest declares or with a setting.

    Raises: BundleError, EngineError.
    """
    model = bundle.read(bundle.layer(bundles.MODEL_TYPE))
    needs = (setting.need,) if setting else bundle.manifest.engines
    plain = setting is not None and setting.plain
    return Session(model, bundle.manifest.interface, needs, recorder, plain=plain)


class Session:
    """A model that serves. Use it as a context manager, or call ``close``; ``predict`` is thread-safe."""

    def __init__(
        self,
        model: bytes,
        interface: Interface,
        needs: Sequence[EngineNeed],
        recorder: Recorder | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self.interface = interface
        self.engine = engines.load(model, needs, plain=plain)
        self._recorder = recorder

    def predict(self, inputs: dict[str, Array] | Array) -> dict[str, Array]:
        """Outputs by name, in the layout, order and meaning of the source model.

        ``inputs``: arrays by input name, or one array where there is a single input; for a preprocessed image
        height × width × colour, with or without a batch axis. Raises: InvalidInput, EngineError.
        """
        started = time.perf_counter_ns()
        try:
            outputs = self.interface.results(self.engine.run(self.interface.feeds(inputs)))
        except EdgekitError as error:
            if self._recorder:
                self._recorder.failed(error.code)
            raise
        if self._recorder:
            self._recorder.record(time.perf_counter_ns() - started)
            notify.SUPERVISOR.alive()
        return outputs

    def close(self, error: BaseException | None = None) -> None:
        """Write the last window of latencies and let the model go; ``error`` is what ends it, if one does."""
        if self._recorder:
            self._recorder.close(error)
        self.engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)
