"""Ends: the code for the ends of detectors, which is a distribution of its own beside the runtime."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit_runtime.errors import IncompatibleTarget

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def brought() -> Iterator[None]:
    """Around an import of ``edgekit_postprocess``. Raises: IncompatibleTarget where it is not installed."""
    try:
        yield
    except ImportError as error:
        raise IncompatibleTarget(
            "the bundle has the end of a detector, and edgekit-postprocess is not installed here",
            "'edgekit device setup' brings it",
        ) from error
