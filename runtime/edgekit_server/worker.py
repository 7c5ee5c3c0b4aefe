"""Worker: a process that loads an app's release and answers the front's questions, until the front asks no more.

    python -m edgekit_server.worker SOCKET APP TIMEOUT_S CACHE_BYTES NICE

It may crash or hang in a kernel: then the front ends it, and has lost no connection.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
from array import array
from typing import TYPE_CHECKING, Any

from edgekit_runtime import home, probation, session, trial
from edgekit_runtime.errors import EdgekitError
from edgekit_server import arena, wire
from edgekit_server.batching import rows_are_strangers
from edgekit_server.caching import Cache
from edgekit_server.documents import takes_batches, version_of
from edgekit_server.inference import Inference
from edgekit_server.queueing import MOST_ROWS, Pace
from edgekit_server.service import GRACE_S, Service

if TYPE_CHECKING:
    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.session import Session


def main() -> int:
    number, app, timeout_s, cache_bytes, nice = sys.argv[1:]
    os.set_inheritable(int(number), False)  # it is open until this process is gone: then the front need not wait for it
    front = socket.socket(fileno=os.dup(int(number)))
    for each in (signal.SIGINT, signal.SIGTERM):  # meant for the front, which ends its workers when they are done
        signal.signal(each, signal.SIG_IGN)
    signal.alarm(wire.START_S + GRACE_S)
    _give_way(int(nice))
    try:
        release = probation.serving(home.default_home(), app)
        loaded = session.of_release(home.default_home(), release)
    except EdgekitError as error:
        _say(front, {"error": str(error)})
        return 1
    except Exception as error:
        _say(front, {"error": repr(error)})
        raise
    with loaded:
        size = arena.capacity(loaded.interface)
        file = arena.make(size)
        manifest = release.bundle.manifest
        pace = _warmed_up(loaded, manifest, float(timeout_s))
        cache = Cache(int(cache_bytes)) if int(cache_bytes) else None
        engine = {"engine": loaded.engine.name, "provider": loaded.engine.provider}
        _say(front, {"digest": release.digest, "size": size, "degraded": loaded.degraded, **engine}, file)
        shared = arena.Arena(file, size)
        gc.freeze()  # what is here stays: no collection is to walk over it in the midst of a request
        inference = Inference(loaded, shared.page, (app, version_of(manifest)), pace, cache)
        Service(front, shared, inference, float(timeout_s)).run()
    return 0


def _give_way(nice: int) -> None:
    """To others; and when the system has no memory left, it is to end this process before the front (proc(5))."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    os.nice(nice)


def _warmed_up(loaded: Session, manifest: Manifest, timeout_s: float) -> Pace:
    """Run the model until it is warm, and see whether requests may share a run; that is not to look like a hang."""

    def predict(inputs: dict[str, Any]) -> dict[str, Any]:
        return loaded.interface.results(loaded.engine.run(loaded.interface.feeds(inputs)))

    most = 1
    with contextlib.suppress(EdgekitError):  # requests will tell
        samples = loaded.samples()[:2]
        loaded.warm_up(samples[0] if samples else None)
        if takes_batches(manifest) and rows_are_strangers(predict, samples):
            most = MOST_ROWS
    return Pace(min(trial.policy(manifest.budget).max_p95_ms / 1e3, timeout_s / 10), most)


def _say(front: socket.socket, told: dict[str, Any], file: int | None = None) -> None:
    """The first packet. A front that is gone does not hear it."""
    beside = [] if file is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [file]))]
    with contextlib.suppress(OSError):
        front.sendmsg([json.dumps(told).encode()], beside)


if __name__ == "__main__":
    sys.exit(main())
