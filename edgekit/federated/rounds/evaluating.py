"""Evaluating: how often the project's float model is right on its evaluation data, with one head or another."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit.building.measure import evaluate
from edgekit.data.dataset import Dataset, Source
from edgekit.errors import EdgekitError
from edgekit.federated.merging import Moments, head_of
from edgekit.federated.rounds import states
from edgekit.federated.strategy import State
from edgekit.model import Format, Model
from edgekit.passes import head
from edgekit.project import Project
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.session import Session
from edgekit_train.update import Weights

ENGINES = {Format.ONNX: "onnxruntime", Format.TFLITE: "litert"}


@dataclass(frozen=True)
class Score:
    """The share of ``samples`` with a label that the model is right about."""

    accuracy: float
    samples: int


Judge = Callable[[Weights], Score | None]
"""None for weights that cannot be judged."""


def nobody(weights: Weights) -> None:
    """The judge where there is nothing to judge by."""


@dataclass(frozen=True)
class Evaluation:
    """A float model, samples, and how weights of a ``trainer`` become a head of the model: see ``merging.head_of``."""

    model: Model
    project: Project
    source: Source
    trainer: str
    moments: Moments

    def score(self, weights: Weights) -> Score | None:
        """None without labels. Raises: ConversionError, InvalidInput for weights that do not fit, DataError."""
        with tempfile.TemporaryDirectory(prefix="edgekit-round-") as folder:
            learned = head_of(self.model, self.trainer, weights, self.moments)
            merged = head.merged(self.model, learned, Path(folder) / self.model.path.name)
            preprocess = {name: table.value() for name, table in self.project.preprocess.items()}
            agreement = {name: table.value() for name, table in self.project.agreement.items()}
            interface = merged.interface(preprocess, agreement)
            dataset = Dataset(str(self.project.data.evaluation), "evaluation", self.source, interface)
            with Session(merged.path.read_bytes(), interface, [EngineNeed(ENGINES[merged.format])]) as session:
                [tally] = evaluate([session], dataset)
        return None if tally.accuracy is None else Score(tally.accuracy, tally.labelled)


def judge(evaluation: Evaluation, tell: Callable[[str], None]) -> Judge:
    """A judge of weights, which remembers the last ones; ``tell`` hears why some cannot be judged."""
    seen = dict[str, Score | None]()

    def score(weights: Weights) -> Score | None:
        name = hashlib.sha256(states.dump(State(weights), "")).hexdigest()
        if name not in seen:
            try:
                found = evaluation.score(weights)
            except EdgekitError as error:
                tell(f"not evaluated: {error.message}")
                found = None
            seen.clear()
            seen[name] = found
        return seen[name]

    return score
