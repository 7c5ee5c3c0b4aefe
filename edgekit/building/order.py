"""Order: what a build is asked for, apart from the model and the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgekit.advice.experience import Timed
from edgekit.budget import Budget
from edgekit.bundle import Contents
from edgekit.config import dotted
from edgekit.data.dataset import Dataset, open_dataset, open_source
from edgekit.errors import ConfigError, EdgekitError
from edgekit.model import Format
from edgekit.precision import Calibrator, Precision
from edgekit_runtime.agreement import Agreement
from edgekit_runtime.interface import Interface
from edgekit_runtime.preprocess import Preprocess
from edgekit_runtime.tensors import TensorSpec

DAY_S = 24 * 3600


class Clock(Protocol):
    """``device`` names the device; calling it gives the nanoseconds of each call of each candidate, or its error."""

    @property
    def device(self) -> str: ...

    def __call__(self, candidates: Sequence[Contents]) -> list[Sequence[int] | EdgekitError]: ...


@dataclass(frozen=True)
class Order:
    """Names, data and the budget. Data paths count from ``base``; ``now_s`` (since 1970) becomes the sequence.

    ``expires_days``: for how long from then on a bundle may be installed; None for ever.
    ``precisions``: the only ones that may ship, in order of preference; () leaves them to the target.
    ``calibrators``: the only ones that are tried; () tries all. ``formats``: the only ones that are built, see
    ``recipe.plan``. ``shapes``: by input, the sizes for what is free, see ``passes.freeze``. ``cache``: a folder for
    what steps make. ``agreement``: by output, when answers agree, where its shape does not tell.
    ``clock`` times candidates on a real device, in place of this host. ``shadow``: whether the float twin goes along.
    ``features``: whether the artifact gives what its last layer takes, to train on.
    ``learned``: what devices took for candidates of the app, by their class. ``origin``: what else the manifest says of
    where the model comes from.
    """

    app: str
    version: str
    calibration: str
    evaluation: str
    base: Path
    now_s: int
    budget: Budget = Budget()
    preprocess: dict[str, Preprocess] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    precisions: tuple[Precision, ...] = ()
    calibrators: tuple[Calibrator, ...] = ()
    formats: tuple[Format, ...] = ()
    cache: Path | None = None
    expires_days: int | None = None
    clock: Clock | None = None
    shadow: bool = False
    features: bool = False
    learned: tuple[Timed, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def expires_s(self) -> int | None:
        """Since 1970, in seconds."""
        return None if self.expires_days is None else self.now_s + self.expires_days * DAY_S

    def dataset(self, role: str, interface: Interface) -> Dataset:
        """The "calibration" or "evaluation" samples. Raises: DataError, ConfigError."""
        return open_dataset(self._data[role], role, interface, self.base)

    def check_data(self) -> None:
        """Before any work: is the data there? Raises: DataError, ConfigError."""
        for role, source in self._data.items():
            open_source(source, role, self.base)

    def check_agreement(self, outputs: Sequence[TensorSpec]) -> None:
        """Raises: ConfigError for what is declared of an output that a model does not give."""
        known = [spec.name for spec in outputs]
        for name, how in self.agreement.items():
            for each in (name, *how.takes):
                if each not in known:
                    where = dotted(("agreement", name))
                    raise ConfigError(
                        f"edgekit.toml: {where}: no output {each!r}", f"the model gives {', '.join(known)}"
                    )

    @property
    def _data(self) -> dict[str, str]:
        return {"calibration": self.calibration, "evaluation": self.evaluation}
