"""Words: how figures, times and releases are written on a page."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
MOST_NAME = 40
MOST_DIGITS = 15


def release(name: str) -> str:
    """Twelve digits of a digest, as many as one tells releases apart by; another name cut to MOST_NAME."""
    digest = _DIGEST.fullmatch(name)
    return digest[1][:12] if digest else cut(name)


def cut(name: str) -> str:
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"


def number(value: float) -> str:
    """1,234 as it is, more in thousands, millions and so on, with three digits."""
    for size, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{_three(value / (1e3 if sign == 'k' else size))} {sign}"
    return f"{value:,.0f}" if float(value).is_integer() else _three(value)


def ms(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{_three(value)} ms"


def share(value: float | None) -> str:
    """Of 0..1, in percent; what is little is not called nothing."""
    if value is None:
        return "–"
    return "0 %" if value == 0 else "< 0.01 %" if value < 1e-4 else f"{_three(value * 100)} %"


def celsius(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} °C"


def moment(when_s: float) -> str:
    """In UTC, to the minute."""
    return _utc(when_s).strftime("%-d %b %Y, %H:%M")


def hour(when_s: float) -> str:
    """In UTC, without the year, which the page says."""
    return _utc(when_s).strftime("%-d %b, %H:%M")


def iso(when_s: float) -> str:
    """For <time datetime>."""
    return _utc(when_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def _three(value: float) -> str:
    """Three digits, never as a power of ten."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(digits, MOST_DIGITS)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(when_s: float) -> datetime:
    """The year 9999 for what no calendar has."""
    return datetime.fromtimestamp(min(max(when_s, 0.0), 253402300799.0), UTC)
