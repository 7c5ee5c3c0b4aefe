"""Order: what a build is asked for, apart from the model and the target."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgekit.budget import Budget
from edgekit.dataset import Dataset, open_dataset, open_source
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess


@dataclass(frozen=True)
class Order:
    """Names, data and the budget. Data paths count from ``base``; ``now_s`` (since 1970) becomes the sequence.

    ``precisions``: the only ones that may ship, in order of preference; () leaves them to the target.
    """

    app: str
    version: str
    calibration: str
    evaluation: str
    base: Path
    now_s: int
    budget: Budget = Budget()
    preprocess: dict[str, Preprocess] = field(default_factory=dict)
    precisions: tuple[str, ...] = ()

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
