"""Crashes: what a process that dies in a kernel leaves behind: where it was, written by faulthandler as it dies.

A program that has enabled faulthandler itself keeps it as it is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
from typing import TYPE_CHECKING

from edgekit_runtime import blackbox

if TYPE_CHECKING:
    from pathlib import Path


def watch(folder: Path, process: str) -> None:
    """From now on, a crash of this process is written into a file of the folder. Raises: OSError."""
    if not faulthandler.is_enabled():
        handle = os.open(_file(folder, process), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        faulthandler.enable(handle, all_threads=False)  # open for as long as the process runs


def forget(folder: Path, process: str) -> None:
    """Remove the file of a process that is well, or that has been told of."""
    with contextlib.suppress(OSError):
        _file(folder, process).unlink()


def left(folder: Path, process: str) -> list[str]:
    """The last lines that a crash left; none where there was no crash, or nobody could write it down."""
    try:
        return blackbox.tail(_file(folder, process).read_text(errors="replace"))
    except OSError:
        return []


def _file(folder: Path, process: str) -> Path:
    return folder / f"crash-{process}.txt"
