"""Shadow: some calls are answered again by the model's float twin while the device is idle; how often both agree.

A thread of the lowest priority takes copies of a few calls, waits until the device has little else to do, loads the
twin, asks it, and lets it go. No call waits for that.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Dict, Tuple

import numpy as np

from edgekit_runtime import fields
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.interface import Interface
from edgekit_watch import sensors

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.session import Session

    Array = np.ndarray[Any, Any]

TWIN_TYPE = "application/vnd.edgekit.twin.v1"
"""Two layers: how it is fed (+json), and the model (+ the format of the bundle's model)."""
CALLS, EVERY_S = 4, 60.0
"""The twin is asked about so many calls at once, and one is kept for it each so many seconds."""
MOST_BYTES = 1 << 25
"""Of the copies of all of them: four pictures of a camera."""
BUSY, HOT_C = 0.5, 70.0
"""From this load a core on, or this warm, the device is not idle."""
SPARE_MIB, TIMES_THE_MODEL = 64, 4
"""Of memory there must be this for others, and so many times the twin's file."""
Call = Tuple[Any, Dict[str, Any]]


def of(bundle: Bundle) -> Shadow | None:
    """None for a bundle without a twin."""
    size = sum(layer.size for layer in bundle.layers if layer.media_type.startswith(TWIN_TYPE))
    room_mib = SPARE_MIB + TIMES_THE_MODEL * size / (1 << 20)
    return Shadow(lambda: _twin(bundle), lambda: is_idle(room_mib)) if size else None


def _twin(bundle: Bundle) -> Session:
    """On one thread of the CPU. Raises: EdgekitError, ValueError, TypeError, KeyError."""
    from edgekit_runtime.session import Session

    manifest = bundle.manifest
    interface = Interface.of(fields.load(bundle.read(bundle.layer(f"{TWIN_TYPE}+json"))))
    model = bundle.read(bundle.layer(f"{TWIN_TYPE}+{manifest.format}"))
    return Session(model, interface, [replace(need, providers=(), threads=1) for need in manifest.engines])


def is_idle(room_mib: float = 0.0) -> bool:
    """Whether the device is neither busy nor warm nor slowed down, and has so much memory to spare."""
    now = sensors.read()
    if now.get("memory_available_mib", room_mib) < room_mib:
        return False
    hot = now.get("temperature_c", 0.0) >= HOT_C or now.get("throttled", 0.0) > 0
    return not hot and os.getloadavg()[0] < BUSY * (os.cpu_count() or 1)


class Shadow:
    """Of one session. ``wants``: whether it has room for a call."""

    def __init__(
        self, load: Callable[[], Session], idle: Callable[[], bool] = is_idle, every_s: float = EVERY_S
    ) -> None:
        self._load, self._idle, self._every_s = load, idle, every_s
        self._lock, self._done = threading.Lock(), threading.Event()
        self._calls: list[Call] = []
        self._runs = self._agreed = 0
        self.wants = True
        self._thread = threading.Thread(target=self._run, name="edgekit-shadow", daemon=True)
        self._thread.start()

    def offer(self, inputs: Any, outputs: dict[str, Array]) -> None:
        """A call; it is copied, for both belong to others."""
        self.wants = False
        given = inputs if isinstance(inputs, dict) else {"": inputs}
        if sum(each.nbytes for each in (*given.values(), *outputs.values())) <= MOST_BYTES // CALLS:
            copied = {name: np.array(each) for name, each in given.items()}
            self._calls.append((copied.get("", copied), {name: np.array(each) for name, each in outputs.items()}))

    def take(self) -> dict[str, int]:
        """The counters since the last time."""
        with self._lock:
            told = {"shadow_runs": self._runs, "shadow_agreed": self._agreed} if self._runs else {}
            self._runs = self._agreed = 0
        return told

    def close(self) -> None:
        """It may still end a run of the twin."""
        self._done.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)  # of this thread only, on Linux
        with contextlib.suppress(EdgekitError, OSError, MemoryError, ValueError, TypeError, KeyError):
            while not self._done.wait(self._every_s):
                if len(self._calls) >= CALLS and self._idle():
                    self._ask()
                self.wants = len(self._calls) < CALLS
        self.wants = False

    def _ask(self) -> None:
        """The twin, about all calls, as long as the device is idle. Raises: as loading it, and EngineError."""
        from edgekit_runtime.compare import same_answer

        with self._load() as twin:
            while self._calls and self._idle() and not self._done.is_set():
                inputs, outputs = self._calls.pop()
                agreed = same_answer(twin.predict(inputs), outputs, twin.interface.agreement)
                with self._lock:
                    self._runs, self._agreed = self._runs + 1, self._agreed + agreed
