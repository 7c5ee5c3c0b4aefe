"""Replacing: what is to ship is held beside what it takes the place of, for no device runs the float model.

The budget holds an artifact beside its own float model only, and may allow it to lose there what that has gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.building.order import Order
from edgekit.bundle import Contents
from edgekit.errors import BundleError
from edgekit.federated.paired import Paired, paired
from edgekit_runtime.bundle import MODEL_TYPE, open_layout
from edgekit_runtime.manifest import Manifest
from edgekit_runtime.session import Session
from edgekit_train import family as families


@dataclass(frozen=True)
class Artifact:
    """A model as devices get it."""

    manifest: Manifest
    model: bytes

    @staticmethod
    def of(contents: Contents) -> Artifact:
        return Artifact(contents.manifest, contents.model)

    @property
    def session(self) -> Session:
        """On this host. Raises: EngineError."""
        return Session(self.model, self.manifest.interface, self.manifest.engines)


@dataclass(frozen=True)
class Replaced:
    """How an artifact for a ``target`` answers beside the one that it replaces; ``precision`` is that of both.

    ``found``: None where there is none to compare with.
    """

    target: str
    precision: str
    found: Paired | None

    @property
    def worse(self) -> bool:
        return self.found is not None and self.found.worse

    @property
    def told(self) -> str:
        """In a line."""
        how = self.found.told if self.found else "not compared, for nothing of the model before holds the budget"
        return f"as {self.precision} on {self.target}: {how}"

    def as_dict(self) -> dict[str, object]:
        evaluation = self.found.as_dict() if self.found else None
        return {"target": self.target, "precision": self.precision, "evaluation": evaluation}


def standing(place: Path, target: str, family: str) -> Artifact | None:
    """That of the bundle in a place; None where none is there, or another one than of the family for the target."""
    try:
        bundle, _ = open_layout(place)
        manifest = bundle.manifest
        if manifest.target != target or families.of(manifest, bundle.digest) != family:
            return None
        return Artifact(manifest, bundle.read(bundle.layer(MODEL_TYPE)))
    except BundleError:
        return None


def replaced(before: Artifact | None, after: Artifact, order: Order) -> Replaced:
    """Both on the evaluation data of an order. Raises: DataError, ConfigError, EngineError."""
    if before is None:
        return Replaced(after.manifest.target, after.manifest.precision, None)
    told = list(dict.fromkeys(each.manifest.precision for each in (before, after)))
    with before.session as first, after.session as second:
        found = paired(first, second, order.dataset("evaluation", first.interface))
    return Replaced(after.manifest.target, " → ".join(told), found)
