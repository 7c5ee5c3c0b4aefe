"""Fields: what stands in a JSON document, taken out of it only as the type that it must have."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, TypeVar

T = TypeVar("T")

MOST = (1 << 63) - 1
"""The largest whole number that databases and other languages take."""

_NAMES: dict[type, str] = {str: "text", dict: "JSON object", list: "list"}


def load(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises: ValueError for anything else; NaN, infinities and half characters are nothing of JSON."""
    try:
        document = table(json.loads(data, parse_constant=_refused, parse_float=_finite))
        json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document


def text(value: object) -> str:
    """Raises: ValueError."""
    return _as(str, value)


def table(value: object) -> dict[str, Any]:
    """Raises: ValueError."""
    return _as(dict, value)


def items(value: object) -> list[Any]:
    """Raises: ValueError."""
    return _as(list, value)


def count(value: object, least: int = 0, most: int = MOST) -> int:
    """A whole number from ``least`` to ``most``. Raises: ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise ValueError(f"{_short(value)} is no whole number from {least} to {most}")


def number(value: object) -> float:
    """A finite number. Raises: ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return value
    raise ValueError(f"{_short(value)} is no finite number")


def _as(kind: type[T], value: object) -> T:
    if isinstance(value, kind):
        return value
    raise ValueError(f"{_short(value)} is no {_NAMES[kind]}")


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refused(digits[:20])


def _short(value: object) -> str:
    plain = isinstance(value, (str, float)) or (isinstance(value, int) and abs(value) <= MOST)
    return repr(value)[:80] if plain else f"a {type(value).__name__}"
