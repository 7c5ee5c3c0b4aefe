"""Counted: so many of something, in words."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 device``, ``2 devices``, ``1,200 devices``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
