"""Budget: what a build must hold. A line of it is a key of ``[budget]`` in edgekit.toml, or ``--budget KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from edgekit.config import decode
from edgekit.errors import ConfigError

# The upper ends keep infinity out, which is no JSON; NaN is within no bounds.
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Mebibytes = Annotated[float, msgspec.Meta(gt=0, le=2**20)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None means that nothing is asked for.

    ``max_accuracy_drop`` and ``min_agreement`` are shares (0.01 is one point), both against the float model on the
    evaluation data; ``max_size_mib`` is that of the model file; ``max_p95_ms`` a host measurement, judged only where
    the host has the target's architecture; ``max_memory_mib`` what loading and serving the model takes at the peak, the
    bare engine apart, measured on this host where it is asked for.
    """

    max_accuracy_drop: Share | None = 0.01
    min_agreement: Share | None = 0.9
    max_size_mib: Mebibytes | None = None
    max_p95_ms: Milliseconds | None = None
    max_memory_mib: Mebibytes | None = None

    @property
    def asks_for_small(self) -> bool:
        """Whether a line of it is held by being small, whatever the time."""
        return self.max_size_mib is not None or self.max_memory_mib is not None

    def as_dict(self) -> dict[str, float]:
        """The lines that ask for something."""
        return {key: value for key, value in msgspec.structs.asdict(self).items() if value is not None}


def override(budget: Budget, lines: Sequence[str]) -> Budget:
    """The budget with ``KEY=VALUE`` lines over it. Raises: ConfigError."""
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"--budget {line}: not KEY=VALUE", "write e.g. --budget max_accuracy_drop=0.01")
        try:
            number: float | None = None if value == "none" else float(value)
        except ValueError as error:
            raise ConfigError(f"--budget {line}: {value!r} is no number", "write a number, or none") from error
        budget = decode({**msgspec.structs.asdict(budget), key: number}, Budget, Path("--budget"))
    return budget
