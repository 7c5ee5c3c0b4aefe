"""Names that files from other machines bear: each is what it must be, or refused."""

from __future__ import annotations

import re

from edgekit_runtime import fields

_WORD, _ROUND = re.compile(r"[A-Za-z0-9_.-]{1,64}"), re.compile(r"[0-9a-f]{32}")


def word(value: object) -> str:
    """Of an app, a device, a trainer or a metric. Raises: ValueError."""
    return _matched(_WORD, value)


def round_id(value: object) -> str:
    """32 hex digits. Raises: ValueError."""
    return _matched(_ROUND, value)


def _matched(pattern: re.Pattern[str], value: object) -> str:
    text = fields.text(value)
    if not pattern.fullmatch(text):
        raise ValueError(f"no name: {text[:80]!r}")
    return text


def short(value: object) -> str:
    """Of a release, a family or a tensor: a printable line of up to 199 characters. Raises: ValueError."""
    text = fields.text(value)
    if not 0 < len(text) < 200 or not text.isprintable():
        raise ValueError(f"no name: {text[:80]!r}")
    return text
