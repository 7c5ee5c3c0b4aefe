"""Gate: what a round has learned becomes a build only if the float model with it answers no worse than the one before.

What comes after that, quantization, the budget, the signature, is that of any build.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.building import recipe
from edgekit.building.order import Order
from edgekit.building.workshop import Workshop
from edgekit.federated.paired import Paired, paired
from edgekit.model import Model
from edgekit.passes import all_passes
from edgekit.target import Target
from edgekit_runtime.session import Session
from edgekit_train import features, normalization
from edgekit_train.update import Weights


@dataclass(frozen=True)
class Gate:
    """For the builds of an order; float models run as the baseline of a build for the target does, on this host."""

    target: Target
    order: Order

    def compared(self, before: Model, after: Model) -> Paired:
        """Both on the evaluation data.

        Raises: DataError, also for data without labels; ConfigError, ModelError, EngineError.
        """
        self.order.check_data()
        with ExitStack() as stack:
            (workshop, first), (_, second) = (
                stack.enter_context(self._open(each, features=False)) for each in (before, after)
            )
            return paired(first, second, workshop.samples("evaluation", first.interface))

    def moments_of(self, model: Model) -> Weights:
        """The moments of its features on the calibration data.

        Raises: as ``compared``; ConversionError for a model that ends in no dense layer.
        """
        self.order.check_data()
        with self._open(model, features=True) as (workshop, session):
            samples = workshop.samples("calibration", session.interface)
            rows = (row for sample in samples for row in features.of(session, sample.inputs))
            return normalization.moments(rows, features.declared(session).size)[0]

    @contextmanager
    def _open(self, model: Model, *, features: bool) -> Iterator[tuple[Workshop, Session]]:
        with tempfile.TemporaryDirectory(prefix="edgekit-gate-") as folder:
            workshop = Workshop(self.target, replace(self.order, features=features), Path(folder))
            plan = recipe.plan(model, self.target, (), all_passes(), self.order.formats)
            with workshop.session(workshop.make(model, plan[0])) as session:
                yield workshop, session
