"""Pip: how it is called on this host, and which of its lines says what went wrong."""

from __future__ import annotations

import sys

COMMAND = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def complaint(said: str) -> str:
    """Of all that it printed: the first line that is an error, else the last one."""
    said = said.strip()
    return next((line for line in said.splitlines() if line.startswith("ERROR")), said.rpartition("\n")[2])
