"""Head names: what a merged head is called, in ONNX and in TFLite."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from edgekit_train import heads

NAME = "merge-head"
"""In the lineage of a model."""


def free(known: Iterable[str]) -> str:
    """A prefix of names that nothing has, nor a head that was merged before."""
    taken = list(known)
    prefixes = (f"{heads.PREFIX}_{number}" for number in count(1))
    return next(prefix for prefix in prefixes if not any(name.startswith(f"{prefix}.") for name in taken))
