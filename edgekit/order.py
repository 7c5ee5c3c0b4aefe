"""Order: what a build is asked for, apart from the model and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgekit.budget import Budget
from edgekit.bundle import Contents
from edgekit.data.dataset import Dataset, open_dataset, open_source
from edgekit.errors import EdgekitError
from edgekit.model import Format
from edgekit.quantization import Calibrator, Precision
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess


class Clock(Protocol):
    """``device`` names the device; calling it gives the nanoseconds of each call of each candidate, or its error."""

    @property
    def device(self) -> str: ...

    def __call__(self, candidates: Sequence[Contents]) -> list[Sequence[int] | EdgekitError]: ...


@dataclass(frozen=True)
class Order:
    """Names, data and the budget. Data paths count from ``base``; ``now_s`` (since 1970) becomes the sequence.

    ``precisions``: the only ones that may ship, in order of preference; () leaves them to the target.
    ``calibrators``: the only ones that are tried; () tries all. ``formats``: the only ones that are built, see
    ``recipe.plan``. ``cache``: a folder for what steps make.
    ``clock`` times candidates on a real device, in place of this host.
    """

    app: str
    version: str
    calibration: str
    evaluation: str
    base: Path
    now_s: int
    budget: Budget = Budget()
    preprocess: dict[str, Preprocess] = field(default_factory=dict)
    precisions: tuple[Precision, ...] = ()
    calibrators: tuple[Calibrator, ...] = ()
    formats: tuple[Format, ...] = ()
    cache: Path | None = None
    clock: Clock | None = None

    def dataset(self, role: str, interface: Interface) -> Dataset:
        """The "calibration" or "evaluation" samples. Raises: DataError, ConfigError."""
        return open_dataset(self._data[role], role, interface, self.base)

    def check_data(self) -> None:
        """Before any work: is the data there? Raises: DataError, ConfigError."""
        for role, source in self._data.items():
            open_source(source, role, self.base)

    @property
    def _data(self) -> dict[str, str]:
        return {"calibration": self.calibration, "evaluation": self.evaluation}
