"""Quality: what a model is fed and what it answers, counted against its calibration, without labels.

The host makes of the counts how far the device's data have moved (``edgekit.drift``). It looks at every Nth call, of
which it chooses N: what looking takes is to stay below SHARE of what inference takes, and a look every EVERY_S seconds
may cost more than that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, Tuple

import numpy as np

from edgekit_runtime.errors import BundleError
from edgekit_runtime.windows import EXPECTED
from edgekit_watch import calibration, shadow

if TYPE_CHECKING:
    from edgekit_runtime.bundle import Bundle
    from edgekit_watch.calibration import Calibration, Spread
    from edgekit_watch.shadow import Shadow

    Array = np.ndarray[Any, Any]

SHARE = 0.0025
EVERY_S = 15.0
SCALE = 10000
"""Of so many in all EXPECTED tells."""
FORGOTTEN = 0.5
"""Of what looks and inferences took is left after each window: a device may get slower."""
CHECKED = ("inputs_checked", "inputs_clipped", "outputs_checked", "outputs_clipped")

Taken = Tuple[Dict[str, int], Dict[str, Tuple[int, ...]]]
"""Counters and drift, as a window has them."""


def of_bundle(bundle: Bundle) -> Quality | None:
    """None for a bundle without a calibration profile, or with one that cannot be read: it serves all the same."""
    with contextlib.suppress(BundleError, ValueError):
        layer = bundle.layer(calibration.MEDIA_TYPE)
        if layer.size <= calibration.MOST_BYTES:
            known, inputs = calibration.parse(bundle.read(layer)), bundle.manifest.interface.inputs
            return Quality(known, {spec.name: spec.inner for spec in inputs}, shadow.of(bundle))
    return None


class Quality:
    """Counts of one session. ``inner``: the names of the artifact's inputs, by those of the source model."""

    def __init__(self, known: Calibration, inner: dict[str, str], twin: Shadow | None = None) -> None:
        self._inputs = [(name, inner.get(name, name), spread) for name, spread in known.inputs.items()]
        self._outputs, self._shadow = list(known.outputs.items()), twin
        spreads = [*known.inputs.items(), *known.outputs.items()]
        bins = {f"{kind}:{name}": each for name, spread in spreads for kind, each in spread.bins.items()}
        self._edges = {key: np.asarray(each.edges) for key, each in bins.items()}
        self._expected = {
            f"{EXPECTED}{key}": tuple(round(share * SCALE) for share in each.shares) for key, each in bins.items()
        }
        self._lock, self._turn = threading.Lock(), 0
        self._left = self._every = 1
        self._at = time.monotonic()
        self._cost_ns = self._spent_ns = 0.0
        self._reset()

    def look(self, inputs: Any, feeds: dict[str, Array], outputs: dict[str, Array], spent_ns: int) -> None:
        """After a call: what it was given, what of that the artifact was fed, its outputs, how long the run took."""
        self._left -= 1
        if self._left > 0 or not self._lock.acquire(blocking=False):
            return
        try:
            began = time.perf_counter_ns()
            self._count(feeds, outputs)
            if self._shadow and self._shadow.wants:
                self._shadow.offer(inputs, outputs)
            self._pace(time.perf_counter_ns() - began, spent_ns)
        finally:
            self._lock.release()

    def take(self) -> Taken:
        """What was counted since the last time. The next call is looked at."""
        with self._lock:
            counters = {key: number for key, number in zip(CHECKED, self._checked) if number}
            drift = {key: tuple(map(int, counts)) for key, counts in self._counts.items() if counts.any()}
            drift.update({EXPECTED + key: self._expected[EXPECTED + key] for key in drift})
            self._reset()
            self._left = 1
            self._cost_ns, self._spent_ns = self._cost_ns * FORGOTTEN, self._spent_ns * FORGOTTEN
        if self._shadow:
            counters.update(self._shadow.take())
        return counters, drift

    def close(self) -> None:
        if self._shadow:
            self._shadow.close()

    def _reset(self) -> None:
        self._counts = {key: np.zeros(len(edges) + 1, np.int64) for key, edges in self._edges.items()}
        self._checked = [0, 0, 0, 0]

    def _pace(self, cost_ns: int, spent_ns: int) -> None:
        """How many calls until the next look."""
        now = time.monotonic()
        self._cost_ns, self._spent_ns = self._cost_ns + cost_ns, self._spent_ns + spent_ns
        cheap = self._cost_ns / max(1.0, SHARE * self._spent_ns)
        soon = self._every * EVERY_S / max(1e-9, now - self._at)
        self._at, self._left = now, max(1, int(min(cheap + 1, soon)))
        self._every = self._left

    @np.errstate(all="ignore")
    def _count(self, feeds: dict[str, Array], outputs: dict[str, Array]) -> None:
        """An array of another form than at build is not counted."""
        self._turn += 1
        for name, inner, spread in self._inputs:
            with contextlib.suppress(KeyError, ValueError, IndexError, TypeError):
                found = calibration.looks(feeds[inner], self._turn)
                self._add(name, spread, found)
                self._check(0, found["input"], spread)
        for name, spread in self._outputs:
            with contextlib.suppress(KeyError, ValueError, IndexError, TypeError):
                if spread.bins:
                    rows = calibration.answers(outputs[name], spread.axis, self._turn)
                    self._add(name, spread, calibration.certainty(rows, softmax=spread.softmax))
                self._check(2, calibration.some(outputs[name], self._turn), spread)

    def _add(self, name: str, spread: Spread, found: dict[str, Array]) -> None:
        for kind in spread.bins:
            key = f"{kind}:{name}"
            self._counts[key] += calibration.counted(found[kind], self._edges[key])

    def _check(self, first: int, array: Array, spread: Spread) -> None:
        if spread.low is not None:
            self._checked[first] += array.size
            self._checked[first + 1] += calibration.beyond(array, spread)
