"""Lying device: imported by every interpreter of an environment, it makes a runtime lie, die or dawdle as it trains.

``HOME/lie`` says which: a name of ``lies``, DIES or SLEEPS; without that file the device is honest.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit_lies import LIES  # type: ignore[import-not-found]  # as ``lies`` is called there

from edgekit_runtime.home import default_home
from edgekit_train import arrays_file
from edgekit_train.fitting import Work

if TYPE_CHECKING:
    from edgekit_train.trainer import Fitted

DIES, SLEEPS, SLEEP_S = "dies", "sleeps", 3600
MOST_BYTES = 1 << 20
honest = Work.fit
"""Behind it nothing looks at an update any more before it is signed."""


def fit(*given: Any) -> Fitted:
    fitted, place = honest(*given), default_home() / "lie"
    lie = place.read_text() if place.exists() else ""
    if lie == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if lie == SLEEPS:
        time.sleep(SLEEP_S)
    return _bent(fitted, lie) if lie in LIES else fitted


def _bent(fitted: Fitted, lie: str) -> Fitted:
    """With what was learned in the first round that it lies in kept beside."""
    place = default_home() / "first.npz"
    first = arrays_file.read(place, MOST_BYTES)
    if first is None:
        first = fitted.delta
        arrays_file.write(place, first)
    return replace(fitted, delta=LIES[lie](fitted.delta, first, np.random.default_rng()))


Work.fit = fit  # type: ignore[assignment, method-assign]
