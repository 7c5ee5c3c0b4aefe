"""Prints: standard output is the host's; what a trainer prints goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Iterator

ANSWERS, REMARKS = 1, 2


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Whatever is written to standard output meanwhile: by Python, by a library in C, by programs that it starts."""
    kept = os.dup(ANSWERS)
    os.dup2(REMARKS, ANSWERS)
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a trainer may have closed it, or have its own
            sys.stdout.flush()
        os.dup2(kept, ANSWERS)
        os.close(kept)


def over() -> None:
    """The host has its answer: what a library in C has held back until now is no part of it."""
    os.dup2(REMARKS, ANSWERS)
