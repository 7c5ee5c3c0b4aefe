"""Clock: when something happened, by the clock of a device that may be wrong.

A board without a battery begins at 1970, or where it was switched off, until somebody tells it the time; another one
is years ahead. Its own times are kept with its windows. Where they are counted is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit_runtime.windows import Window

OFF_S = 600.0
"""A clock that is less off is taken as right."""
EARLIEST_S = 1577836800.0
"""2020: no window was made before."""
LONGEST_S = 3600.0


@dataclass(frozen=True)
class Clock:
    """What the host's and the device's clocks said at the same moment; None for a device that did not tell."""

    now_s: float
    device_now_s: float | None = None

    @property
    def offset_s(self) -> float:
        """What has to be added to the device's times; 0 where it is as good as right."""
        off = 0.0 if self.device_now_s is None else self.now_s - self.device_now_s
        return off if abs(off) > OFF_S else 0.0


def ends(windows: Sequence[Window], clock: Clock) -> list[float]:
    """When each ended, by the host's clock.

    The device's own time, put right by what its clock is off now. Where that cannot be, its clock was set in the
    meantime: then the time as it is; then the begin of the window that came next in the session; then now.
    """
    order = sorted(range(len(windows)), key=lambda i: (windows[i].session, -windows[i].seq))
    ended: list[float] = [0.0] * len(windows)
    next_began: dict[str, float] = {}
    for i in order:
        window = windows[i]
        latest = next_began.get(window.session, clock.now_s)
        end = _possible(window.end_s, clock)
        ended[i] = latest if end is None else end
        next_began[window.session] = ended[i] - min(max(window.end_s - window.start_s, 0.0), LONGEST_S)
    return ended


def _possible(end_s: float, clock: Clock) -> float | None:
    for moment in (end_s + clock.offset_s, end_s):
        if EARLIEST_S <= moment <= clock.now_s + OFF_S:
            return min(moment, clock.now_s)
    return None
