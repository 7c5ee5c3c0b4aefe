"""Room: how large an array may become by numbers that others wrote."""

from __future__ import annotations

MOST = 1 << 24
"""Numbers that one array may hold."""


def check_room(*sizes: int) -> None:
    """Raises: ValueError for an array of these sizes that would hold more than MOST numbers."""
    count = 1
    for size in sizes:
        count *= int(size)
    if count > MOST:
        raise ValueError(f"an array of {count} numbers")
