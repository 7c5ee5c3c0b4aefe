"""Session: one loaded model that serves; every call's latency is recorded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_runtime import bundle as bundles
from edgekit_runtime import engines, releases
from edgekit_runtime.errors import EdgekitError, NotInstalled
from edgekit_runtime.home import NAME, default_home
from edgekit_runtime.report import Recorder, Spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.interface import Interface
    from edgekit_runtime.manifest import EngineNeed

    Array = np.ndarray[Any, Any]


def load(app: str | os.PathLike[str]) -> Session:
    """A session of an installed app (its calls are reported), or of the bundle in a folder (they are not).

    Raises: NotInstalled, BundleError, EngineError.
    """
    home, name = default_home(), os.fspath(app)
    if NAME.fullmatch(name) and releases.pointed(home, name, "current"):
        release = releases.current(home, name)
        return of_bundle(release.bundle, Recorder(Spool(home / "reports" / name), name, release.digest))
    if os.path.isdir(name):  # False for any odd name
        return of_bundle(bundles.open_layout(Path(name))[0])
    if NAME.fullmatch(name):
        releases.current(home, name)
    live = ", ".join(releases.apps(home)) or "none"
    raise NotInstalled(f"{name!r} is neither an installed app nor a folder with a bundle", f"live apps: {live}")


def of_bundle(bundle: Bundle, recorder: Recorder | None = None) -> Session:
    """A session of a bundle's model, loaded from verified bytes. Raises: BundleError, EngineError."""
    model = bundle.read(bundle.layer(bundles.MODEL_TYPE))
    return Session(model, bundle.manifest.interface, bundle.manifest.engines, recorder)


class Session:
    """A model that serves. Use it as a context manager, or call ``close``; ``predict`` is thread-safe."""

    def __init__(
        self, model: bytes, interface: Interface, needs: Sequence[EngineNeed], recorder: Recorder | None = None
    ) -> None:
        self.interface = interface
        self.engine = engines.load(model, needs)
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
        return outputs

    def close(self) -> None:
        """Write the last window of latencies and let the model go."""
        if self._recorder:
            self._recorder.close()
        self.engine.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
