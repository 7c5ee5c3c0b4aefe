"""Waves: how a rollout is cut, into waves one after the other, or to a share of a fleet that stays the same.

A wave is written as the number of devices that have the release after it (``1``) or as their share (``10%``).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from itertools import pairwise

from edgekit.errors import ConfigError

_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600}
YEAR_S = 365 * 24 * 3600.0


def share(text: str) -> float:
    """``20%`` as 0.2. Raises: ConfigError when it is no share above 0 % and up to 100 %."""
    found = _SHARE.fullmatch(text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise ConfigError(f"{text!r} is no share", "write 20%: above 0%, up to 100%")
    return float(found[1]) / 100


def duration(text: str) -> float:
    """``90s``, ``2m`` or ``1h`` in seconds, up to a year. Raises: ConfigError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{text!r} is no duration", "write 90s, 2m or 1h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > YEAR_S:
        raise ConfigError(f"{text!r} is longer than a year", "write 90s, 2m or 1h")
    return seconds


def sizes(text: str, number: int) -> tuple[int, ...]:
    """How many devices each wave has, of ``number`` in all; what is left over is one more wave.

    A share is rounded up; a wave that adds nobody is left out. Raises: ConfigError when a wave takes back what the one
    before had.
    """
    ends = [_end(step.strip(), number) for step in text.split(",")]
    if any(later < earlier for earlier, later in pairwise(ends)):
        raise ConfigError(f"waves {text!r} do not rise, with {number} devices", "write 1,10%,100%")
    rising = sorted({0, *(min(end, number) for end in (*ends, number))})
    return tuple(end - start for start, end in pairwise(rising))


def _end(step: str, number: int) -> int:
    if step.isascii() and step.isdigit() and int(step):
        return int(step)
    if _SHARE.fullmatch(step):
        return math.ceil(share(step) * number)
    raise ConfigError(f"{step!r} is no wave", "write waves as 1,10%,100%")


def within(names: Sequence[str], part: float, salt: str) -> tuple[str, ...]:
    """The names that fall into a share: by their own hash, so the same ones next time, whoever else comes or goes.

    A larger share has all of a smaller one. Few names may give more or fewer than the share, and at least one.
    """
    places = {name: _place(name, salt) for name in names}
    first = min(names, key=places.__getitem__)
    return tuple(name for name in names if places[name] < part or name == first)


def _place(name: str, salt: str) -> float:
    """Where a name lies between 0 and 1."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{name}".encode()).digest()[:7]) / (1 << 56)
