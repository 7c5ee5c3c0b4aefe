"""Lineage: which round made the weights of a build, as ``provenance.round`` of its manifest.

Which devices took part stands in the round's record on the host: a bundle goes to all of them, and to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.counted import counted
from edgekit.errors import BundleError
from edgekit.federated.paired import Paired
from edgekit_runtime import fields
from edgekit_runtime.manifest import Manifest

KEY = "round"
HIDDEN = "devices that noise hides"


@dataclass(frozen=True)
class Lineage:
    """``number``: of the round in the store of its host; ``key``: its name anywhere, 32 hex digits.
    ``model``: the float model that its devices' releases were built from, by its digest.

    ``devices``, ``examples``: whose updates were combined, and how many samples they say to have learned from; 0 where
    nobody can know, or noise hides it.
    ``rounds``: how many there were, each upon the one before, since the head that the model came with.
    ``evaluation``: how the float model with these weights answered beside the one before; None until it did.
    """

    number: int
    key: str
    model: str
    strategy: str
    trainer: str
    devices: int
    examples: int
    rounds: int = 1
    evaluation: Paired | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "evaluation": self.evaluation and self.evaluation.as_dict()}

    @property
    def told(self) -> str:
        """In a line."""
        counts = [(count, noun) for count, noun in ((self.devices, "device"), (self.examples, "example")) if count]
        learned = ", ".join(counted(count, noun) for count, noun in counts) or HIDDEN
        before = f", upon {self.rounds - 1} before" if self.rounds > 1 else ""
        of = f"{learned} by {self.strategy}, {self.trainer} of model {self.model[:19]}{before}"
        return f"{self.number} ({self.key}) of {of}"


def of(manifest: Manifest) -> Lineage | None:
    """None for a build that no round has made. Raises: BundleError for a manifest that tells it in another way."""
    try:
        told = manifest.provenance.get(KEY)
        return None if told is None else _read(fields.table(told))
    except (ValueError, KeyError) as error:
        raise BundleError(f"{manifest.app}: its round cannot be read: {error}", "build it again") from error


def _read(told: Mapping[str, Any]) -> Lineage:
    known: dict[str, Any] = {key: fields.text(told[key]) for key in ("key", "model", "strategy", "trainer")}
    known |= {key: fields.count(told[key]) for key in ("number", "devices", "examples", "rounds")}
    evaluation = told["evaluation"]
    return Lineage(**known, evaluation=None if evaluation is None else Paired.of(fields.table(evaluation)))
